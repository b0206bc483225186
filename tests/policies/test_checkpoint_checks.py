"""Checkpoints that are not what they seem, as strangers bring them."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.checkpoint_checks import check_ids
from steadyrl.policies.loading import load_model, load_tokenizer, model_from_config
from steadyrl.policies.model_settings import Pretrained, SmallDense
from steadyrl.policies.weights import copy_weights
from tests.policies.families import FAMILIES, SHARED, family_model, scaled_up

TOKENIZER = load_tokenizer(SmallDense())
Weights = dict[str, Tensor]


def llama(*, tied: bool = False) -> PreTrainedModel:
    config = LlamaConfig(**SHARED, intermediate_size=16, head_dim=16, tie_word_embeddings=tied)
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain")
    scaled_up(llama).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experts")
    family_model("qwen3_moe").save_pretrained(path)
    return path


def changed(source: Path, path: Path, change: Callable[[Weights], Weights], **config: Any) -> str:
    """A copy of the checkpoint `source` with changed weights and configuration."""
    copytree(source, path, dirs_exist_ok=True)
    weights = load_file(path / "model.safetensors")
    save_file(change(weights), path / "model.safetensors", metadata={"format": "pt"})
    described = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(described | config))
    return str(path)


def load(path: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return load_model(Pretrained(path=path), tokenizer=TOKENIZER, seed=0, dtype=dtype)


def keys(rename: Callable[[str], str]) -> Callable[[Weights], Weights]:
    return lambda weights: {rename(name): weight for name, weight in weights.items()}


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {n: w for n, w in weights.items() if part not in n}


def with_value(name: str, value: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        weights[name].view(-1)[3] = value
        return weights

    return change


EMBEDDING = "model.embed_tokens.weight"
QUERIES = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (keys(lambda n: f"module.{n}"), r"30 of the 30 .* names begin with 'module\.'"),
        (keys(lambda n: f"_orig_mod.{n}"), r"names begin with '_orig_mod\.', .* remove it"),
        (
            keys(lambda n: f"_fsdp_wrapped_module.module.{n}"),
            r"begin with '_fsdp_wrapped_module\.module\.'",
        ),
        (
            keys(lambda n: n.replace("q_proj", "query")),
            r"3 of the 30 .*q_proj.* It holds others inst",
        ),
        (
            keys(lambda n: n.replace(".weight", ".lora_A.weight") if "q_proj" in n else n),
            r"It holds adapters: merge them",
        ),
        (without("layers.1."), r"9 of the 30 .*layers\.1\..* would be random\. Download"),
        (without("lm_head"), r"1 of the 30 .* lm_head\.weight.* set tie_word_embeddings to true"),
        (
            lambda weights: weights | {QUERIES: torch.ones(4, 4)},
            r"q_proj.* \(4, 4\), .*\(32, 32\)\.",
        ),
        (
            lambda w: w | {EMBEDDING: w[EMBEDDING][:-1]},
            r"shape \(47, 32\), but .* \(48, 32\)\. Cor",
        ),
        (
            with_value(QUERIES, float("nan")),
            r"non-finite weight in torch\.float32: .*layers\.1.*q_proj",
        ),
        (
            with_value("model.norm.weight", float("-inf")),
            r"non-finite weight .*: model\.norm\.weight",
        ),
        (
            lambda w: w | {EMBEDDING: torch.zeros_like(w[EMBEDDING])},
            r"embed_tokens.* one number ev",
        ),
        (lambda w: {n: torch.zeros_like(v) for n, v in w.items()}, r"is incomplete: "),
        (
            lambda w: w | {QUERIES.replace(".1.", ".3."): w[QUERIES].clone()},
            r"holds 1 weights that LlamaForCausalLM .*layers\.3.* for example the number of layers",
        ),
        (
            lambda w: w | {QUERIES.replace("weight", "bias"): torch.ones(32)},
            r"does not use, for example .*q_proj\.bias",
        ),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused_in_one_sentence(
    plain: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[Weights], Weights],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(changed(plain, tmp_path, change))
    assert "\n" not in str(caught.value)
    assert "LOAD REPORT" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            "mlp.experts.3.",
            r"experts\.down_proj has the shape \(7, 32, 16\), .* \(8, 32, 16\), and",
        ),
        ("layers.1.mlp.experts.3.gate_proj", r"that 'model\.layers\.1\.mlp\.experts.* is built"),
        ("layers.1.mlp.experts", r"2 of the 36 weights"),
    ],
)
def test_experts_that_are_missing_are_named(
    experts: Path, tmp_path: Path, lost: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(changed(experts, tmp_path, without(lost)))


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_checkpoints_of_every_family_are_accepted(family: str, tmp_path: Path) -> None:
    model = family_model(family)
    model.save_pretrained(tmp_path)
    loaded = load(str(tmp_path)).state_dict()
    assert all(torch.equal(loaded[name], w) for name, w in model.state_dict().items())


def test_a_model_of_zero_centered_norms_is_whole(tmp_path: Path) -> None:
    config = Gemma2Config(**SHARED, intermediate_size=16, head_dim=16)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)  # 1 + weight, tied
    assert not load(str(tmp_path)).model.norm.weight.any()


def test_an_infinity_of_the_type_that_is_trained_is_found(plain: Path, tmp_path: Path) -> None:
    path = changed(plain, tmp_path, with_value(QUERIES, 1e5))
    assert load(path).state_dict()[QUERIES].max() == 1e5
    with pytest.raises(UserError, match=r"non-finite weight in torch\.float16"):
        load(path, torch.float16)


def test_what_no_part_could_use_is_named_in_a_warning(plain: Path, tmp_path: Path) -> None:
    path = changed(plain, tmp_path, lambda w: w | {"v_head.summary.weight": torch.ones(1, 32)})
    with pytest.warns(
        UserWarning, match=r"holds 1 weights .* not use, for example v_head\.summary\.weight"
    ):
        load(path)


def test_layers_that_predict_further_tokens_may_be_left_over(plain: Path, tmp_path: Path) -> None:
    path = changed(
        plain,
        tmp_path,
        lambda w: w | {QUERIES.replace(".1.", ".3."): torch.ones(32, 32)},
        num_nextn_predict_layers=1,
    )
    assert len(load(path).model.layers) == 3


def test_a_config_that_leaves_layers_out_is_refused(plain: Path, tmp_path: Path) -> None:
    path = changed(plain, tmp_path, dict, num_hidden_layers=2)
    with pytest.raises(
        UserError, match=r"holds 9 weights .* does not use, for example model\.layers\.2\."
    ):
        load(path)


def test_weights_of_another_architecture_are_refused(experts: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(llama().config.to_json_string())
    save_file(load_file(experts / "model.safetensors"), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"9 of the 30 weights of Llama.* config\.json belong"):
        load(str(tmp_path))


def test_a_tied_head_may_be_missing_and_one_that_differs_stays_apart(tmp_path: Path) -> None:
    scaled_up(lambda: llama(tied=True)).save_pretrained(tmp_path / "tied")
    tied = load(str(tmp_path / "tied"))
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    head = torch.randn(48, 32)
    path = changed(tmp_path / "tied", tmp_path / "both", lambda w: w | {"lm_head.weight": head})
    both = load(path)
    twin = model_from_config(both, torch.float32)
    copy_weights(both.state_dict(), twin.state_dict())
    for model in (both, twin):
        assert torch.equal(model.lm_head.weight, head)
        assert torch.equal(model.model.embed_tokens.weight, tied.lm_head.weight)


def test_pickled_weights_are_read(plain: Path, tmp_path: Path) -> None:
    copytree(plain, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert torch.equal(load(str(tmp_path)).state_dict()[QUERIES], weights[QUERIES])
    torch.save(keys(lambda n: f"module.{n}")(weights), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"30 of the 30 weights"):
        load(str(tmp_path))


def with_rows(embedding: int, head: int) -> PreTrainedModel:
    model = llama()
    model.resize_token_embeddings(embedding)
    model.lm_head = torch.nn.Linear(32, head)
    return model


def test_every_token_has_its_row() -> None:
    tokens = len(TOKENIZER)
    check_ids(with_rows(tokens, tokens), TOKENIZER)
    last = f"gives '~' the id {tokens - 1}"
    for rows in ((tokens - 1, tokens), (tokens, tokens - 1)):
        with pytest.raises(UserError, match=rf"{last}, .*resize_token_embeddings\({tokens}\)"):
            check_ids(with_rows(*rows), TOKENIZER)


@pytest.mark.parametrize("end", [500, -1, [1, 500]])
def test_an_end_token_that_can_never_come_is_named(end: int | list[int]) -> None:
    model = with_rows(len(TOKENIZER), len(TOKENIZER))
    model.generation_config.eos_token_id = end
    beyond = end[1] if isinstance(end, list) else end
    with pytest.raises(UserError, match=rf"end token {beyond}, .* could never be sampled\. Corr"):
        check_ids(model, TOKENIZER)


@pytest.mark.parametrize("end", ["1", [1, "<|end|>"], True])
def test_an_end_token_that_is_not_a_number_is_named(end: object) -> None:
    model = with_rows(len(TOKENIZER), len(TOKENIZER))
    model.generation_config.eos_token_id = end
    odd = end[1] if isinstance(end, list) else end
    with pytest.raises(UserError, match=rf"{odd!r}, which is not a token id\. Correct"):
        check_ids(model, TOKENIZER)
