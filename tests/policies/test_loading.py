"""Models and tokenizers from presets and folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Ernie4_5_MoeConfig,
    Ernie4_5_MoeForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    MiniMaxConfig,
    MiniMaxForCausalLM,
    PreTrainedModel,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.checkpoint_folder import is_local
from steadyrl.policies.loading import load_model, load_tokenizer, model_from_config, set_dtype
from steadyrl.policies.model_settings import (
    AnyModel,
    ModelSettings,
    Pretrained,
    SmallDense,
    SmallMoE,
)
from steadyrl.policies.routers import is_moe
from steadyrl.policies.tokenizers import character_tokenizer
from tests.closeness import assert_close
from tests.engines.builders import gpt2
from tests.policies.families import SHARED, scaled_up

TINY = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "head_dim": 8}
TINY_MOE = SmallMoE(**TINY, expert_width=8)
TINY_DENSE = SmallDense(**TINY, mlp_width=8)


def load(settings: ModelSettings, *, seed: int = 1, dtype: torch.dtype = torch.float32):
    return load_model(settings, tokenizer=load_tokenizer(settings), seed=seed, dtype=dtype)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(6)[None]).logits


def test_presets_are_what_their_sizes_say() -> None:
    moe, dense = load(SmallMoE(experts=16, experts_per_token=3)), load(SmallDense())
    assert is_moe(moe)
    assert not is_moe(dense)
    experts = moe.model.layers[2].mlp.experts
    assert experts.gate_up_proj.shape == (16, 128, 64)  # gate and up, 64 wide each
    assert moe.model.layers[2].mlp.gate.top_k == 3
    for model in (moe, dense):
        assert len(model.model.layers) == 3
        assert model.model.layers[0].self_attn.k_proj.weight.shape == (2 * 16, 64)
        assert model.lm_head.weight.shape == (len(character_tokenizer()), 64)
        assert model.lm_head.weight is not model.model.embed_tokens.weight
        assert model.config.max_position_embeddings == 4096
        assert not model.training


def test_experts_are_computed_as_grouped_products() -> None:
    assert load(TINY_MOE).config._experts_implementation == "grouped_mm"


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, same, other = (load(TINY_MOE, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(logits(one), logits(same))
    assert not torch.allclose(logits(one), logits(other), atol=1e-4)


def test_a_twin_computes_the_same_once_weights_of_its_own_are_loaded() -> None:
    model = load(TINY_MOE)
    state = torch.random.get_rng_state()
    twin = model_from_config(model, torch.float32)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not {w.data_ptr() for w in twin.parameters()} & {
        w.data_ptr() for w in model.parameters()
    }
    twin.load_state_dict(model.state_dict())
    assert torch.equal(logits(twin), logits(model))
    assert not twin.training


def test_a_twin_ties_what_its_model_ties() -> None:
    model = gpt2()
    twin = model_from_config(model, torch.bfloat16)
    assert twin.lm_head.weight is twin.transformer.wte.weight
    assert model.lm_head.weight is model.transformer.wte.weight


class Work(TorchDispatchMode):
    """Notes what is computed outside the device without memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest_float32 = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result.is_meta:
            self.names.add(func.overloadpacket.__name__)
            if result.dtype == torch.float32:
                self.largest_float32 = max(self.largest_float32, result.numel())
        return result


def test_a_twin_is_made_in_its_own_type_and_nothing_is_drawn_for_it() -> None:
    model = load(TINY_MOE, dtype=torch.bfloat16)
    with Work() as work:
        model_from_config(model, torch.bfloat16)
    assert "empty_like" in work.names
    assert not work.names & {"normal_", "uniform_", "randn", "rand"}
    assert work.largest_float32 == 4  # the rotary frequencies


def test_a_twin_changes_its_own_settings_only() -> None:
    model = load(TINY_MOE)
    before = model.config._experts_implementation
    model_from_config(model, torch.float32).set_experts_implementation("eager")

    assert before != "eager"
    assert model.config._experts_implementation == before


def test_bfloat16_is_of_the_weights_and_not_of_the_rotary_frequencies(tmp_path: Path) -> None:
    model = load(TINY_MOE, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    load_tokenizer(TINY_MOE).save_pretrained(tmp_path)
    reloaded = load(Pretrained(path=str(tmp_path)), dtype=torch.bfloat16)
    twin = model_from_config(load(TINY_MOE), torch.bfloat16)
    # Frequency i of a head of width 8 is 10000^(-i/4).
    expected = 10_000.0 ** -(torch.arange(4) / 4)
    for which in (model, reloaded, twin):
        assert {weight.dtype for weight in which.parameters()} == {torch.bfloat16}
        assert_close(which.model.rotary_emb.inv_freq / expected, torch.ones(4), terms=8)


def ernie() -> PreTrainedModel:
    """Keeps its routers in float32."""
    config = Ernie4_5_MoeConfig(
        **SHARED,
        head_dim=16,
        intermediate_size=16,
        moe_num_experts=8,
        moe_k=2,
        moe_intermediate_size=16,
        moe_layer_start_index=1,
    )
    return Ernie4_5_MoeForCausalLM(config)


def minimax() -> PreTrainedModel:
    """Saves the decays of its linear attention with its weights."""
    config = MiniMaxConfig(
        **SHARED,
        head_dim=16,
        intermediate_size=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        block_size=4,
    )
    return MiniMaxForCausalLM(config)


def gpt_j() -> PreTrainedModel:
    """Has sines of positions that no checkpoint holds."""
    config = GPTJConfig(vocab_size=48, n_embd=32, n_layer=2, n_head=2, rotary_dim=8, n_inner=16)
    return GPTJForCausalLM(config)


@pytest.mark.parametrize("build", [ernie, minimax, gpt_j])
def test_a_twin_in_bfloat16_computes_as_a_loaded_model_does(
    build: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    scaled_up(build).save_pretrained(tmp_path)
    load_tokenizer(TINY_MOE).save_pretrained(tmp_path)
    in_float32 = load(Pretrained(path=str(tmp_path)))
    loaded = load(Pretrained(path=str(tmp_path)), dtype=torch.bfloat16)
    for model in (loaded, in_float32):
        twin = model_from_config(model, torch.bfloat16)
        pairs = zip(
            [*twin.named_parameters(), *twin.named_buffers()],
            [*loaded.named_parameters(), *loaded.named_buffers()],
            strict=True,
        )
        assert not [name for (name, one), (_, other) in pairs if one.dtype != other.dtype]
        twin.load_state_dict(loaded.state_dict())
        for (name, one), (_, other) in zip(
            twin.named_buffers(), loaded.named_buffers(), strict=True
        ):
            assert torch.equal(one, other), name
        assert torch.equal(logits(twin), logits(loaded))


@pytest.mark.parametrize("build", [ernie, minimax, gpt_j])
def test_a_model_given_another_type_is_the_model_loaded_in_that_type(
    build: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    scaled_up(build).save_pretrained(tmp_path)
    load_tokenizer(TINY_MOE).save_pretrained(tmp_path)
    loaded = load(Pretrained(path=str(tmp_path)), dtype=torch.bfloat16)
    model = load(Pretrained(path=str(tmp_path)))
    exact = {name: weight.clone() for name, weight in model.named_parameters()}
    precise = set_dtype(model, torch.bfloat16)

    assert model.config.to_dict() == loaded.config.to_dict()
    for (name, one), (_, other) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name
    assert torch.equal(logits(model), logits(loaded))
    lowered = {name for name, w in loaded.named_parameters() if w.dtype == torch.bfloat16}
    assert precise.keys() == lowered
    assert all(torch.equal(weight, exact[name]) for name, weight in precise.items())


@pytest.mark.parametrize("settings", [TINY_MOE, TINY_DENSE], ids=["moe", "dense"])
def test_a_saved_model_comes_back_the_same(settings: SmallMoE, tmp_path: Path) -> None:
    model, tokenizer = load(settings), load_tokenizer(settings)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    saved = Pretrained(path=str(tmp_path))
    back, back_tokenizer = load(saved), load_tokenizer(saved)
    assert type(back) is type(model)
    assert not back.training
    assert torch.equal(logits(back), logits(model))
    text = "<|user|>1+2=\tx y"
    assert back_tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert back_tokenizer.chat_template == tokenizer.chat_template
    assert back_tokenizer.eos_token_id == tokenizer.eos_token_id
    assert back_tokenizer.pad_token_id == tokenizer.pad_token_id


def test_a_checkpoint_that_is_to_put_out_router_logits_does_not(tmp_path: Path) -> None:
    model = load(TINY_MOE)
    model.config.output_router_logits = True
    assert model(input_ids=torch.arange(6)[None]).router_logits is not None
    model.save_pretrained(tmp_path)
    back = load_model(Pretrained(path=str(tmp_path)), tokenizer=load_tokenizer(TINY_MOE), seed=0)
    assert back(input_ids=torch.arange(6)[None]).router_logits is None


@pytest.mark.parametrize(
    "path", ["./nowhere", "./nowhere/at-all", "../nowhere", "runs/a/checkpoints", "nowhere/"]
)
def test_a_missing_folder_is_named(path: str) -> None:
    for load_part in (load, load_tokenizer):
        with pytest.raises(
            UserError, match=rf"No checkpoint folder at '{path}'\. Give an existing folder"
        ):
            load_part(Pretrained(path=path))


def test_names_of_the_hub_are_not_paths() -> None:
    for name in ("gpt2", "Qwen/Qwen3-0.6B", "my_org/my.model-1", "_own/model"):
        assert not is_local(name)
    for path in (".", "~/model", "/models/a", "a/b/c", "my model", "model.gguf", "own\\model"):
        assert is_local(path)


def test_damaged_weights_are_reported_in_one_sentence(tmp_path: Path) -> None:
    load(TINY_DENSE).save_pretrained(tmp_path)
    load_tokenizer(TINY_DENSE).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(
        UserError, match=r"checkpoint .* cannot be loaded: .+ Give a folder"
    ) as caught:
        load(Pretrained(path=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_damaged_configuration_is_reported_in_one_sentence(tmp_path: Path) -> None:
    load(TINY_DENSE).save_pretrained(tmp_path)
    load_tokenizer(TINY_DENSE).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"checkpoint .* cannot be loaded: .+ Give a folder"):
        load(Pretrained(path=str(tmp_path)))


def test_a_quantized_checkpoint_is_refused_before_a_package_is_asked_for(tmp_path: Path) -> None:
    load(TINY_DENSE).save_pretrained(tmp_path)
    load_tokenizer(TINY_DENSE).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"quantized \(bitsandbytes\): .* dequantize"):
        load(Pretrained(path=str(tmp_path)))


def test_folder_without_tokenizer_is_reported(tmp_path: Path) -> None:
    load(TINY_DENSE).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"has no tokenizer, only special tokens. Save the tokenizer"
    ):
        load_tokenizer(Pretrained(path=str(tmp_path)))


def test_files_that_a_folder_lacks_are_named(tmp_path: Path) -> None:
    empty = Pretrained(path=str(tmp_path))
    both = (
        r"cannot be loaded: .+ The folder has no config\.json and no tokenizer\.json\. Give a fol"
    )
    with pytest.raises(UserError, match=both):
        load_tokenizer(empty)
    with pytest.raises(UserError, match=r"cannot be loaded: .+ The folder has no config\.json\. G"):
        load_model(empty, tokenizer=load_tokenizer(TINY_DENSE), seed=0)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"\. The folder has no tokenizer\.json\. Give a") as caught:
        load_tokenizer(empty)
    assert "\n" not in str(caught.value)


def test_a_reason_of_many_lines_is_told_but_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Talkative:
        @staticmethod
        def from_pretrained(path: str) -> None:
            raise ValueError("It needs one of:\n(1) this,\n(2) that." + " And so on." * 100)

    monkeypatch.setattr("steadyrl.policies.loading.AutoTokenizer", Talkative)
    with pytest.raises(UserError, match=r"It needs one of: \(1\) this, \(2\) that\.") as caught:
        load_tokenizer(Pretrained(path="org/model"))
    assert len(str(caught.value)) < 500


def test_name_that_is_not_on_the_hub_is_reported() -> None:
    with pytest.raises(UserError, match=r"'nobody/no-such-model' cannot be loaded: .+ on the Hub"):
        load(Pretrained(path="nobody/no-such-model"))


def test_settings_are_told_apart_by_name_and_refuse_what_they_do_not_know() -> None:
    read = TypeAdapter(AnyModel).validate_python
    assert read({"name": "small_dense", "layers": 2}) == SmallDense(layers=2)
    with pytest.raises(ValidationError, match="small_moe"):
        read({"name": "large_moe"})
    with pytest.raises(ValidationError, match="mlp_width"):
        read({"name": "small_moe", "mlp_width": 8})
    with pytest.raises(ValidationError, match="layers"):
        SmallMoE(layers=0)


def test_sizes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"heads is 4 and kv_heads is 3. Set heads to a mult"):
        SmallMoE(heads=4, kv_heads=3)
    with pytest.raises(ValidationError, match=r"head_dim is 7. Set it to an even number"):
        SmallDense(head_dim=7)
    with pytest.raises(ValidationError, match=r"experts_per_token is 3, but there are 2 experts"):
        SmallMoE(experts=2, experts_per_token=3)
