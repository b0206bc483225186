"""Checkpoints with the names that readers of Transformers 4 look for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.policies.tokenizers import character_tokenizer
from tests.policies.families import FAMILIES, SHARED, family_model

TOKENIZER = character_tokenizer()
BASE = {**SHARED, "vocab_size": len(TOKENIZER), "intermediate_size": 16}


def rope(theta: float, **others: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **others}}


def llama(**settings: Any) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**{**BASE, **settings}))


def saved(folder: Path, model: PreTrainedModel, file: str = "config.json") -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    save_for_all_readers(folder, model, TOKENIZER)
    return json.loads((folder / file).read_text())


def qwen3_moe() -> PreTrainedModel:
    sizes = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**BASE, **sizes, **rope(1e6)))


def gemma3() -> PreTrainedModel:
    both = {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
    }
    return Gemma3ForCausalLM(Gemma3TextConfig(**BASE, head_dim=16, rope_parameters=both))


def gpt_neox() -> PreTrainedModel:
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2}
    sizes |= {"vocab_size": len(TOKENIZER), "intermediate_size": 16}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, **rope(1e5, partial_rotary_factor=0.5)))


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


@pytest.mark.parametrize(
    ("build", "older"),
    [
        (lambda: llama(**rope(1e5)), {"rope_theta": 1e5, "rope_scaling": None}),
        (lambda: llama(**rope(5e5, **LLAMA3)), {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
        (qwen3_moe, {"rope_theta": 1e6, "num_experts": 6, "torch_dtype": "float32"}),
        (
            gemma3,
            {
                "rope_theta": 5e5,
                "rope_local_base_freq": 5e3,
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            },
        ),
        (gpt_neox, {"rotary_emb_base": 1e5, "rotary_pct": 0.5}),
    ],
)
def test_a_config_says_everything_under_the_older_names_too(
    build: Any, older: dict[str, Any], tmp_path: Path
) -> None:
    model = build()
    model.save_pretrained(tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "config.json").read_text())
    ours = saved(tmp_path / "ours", model)
    assert {name: ours.get(name) for name in older} == older
    assert {name: ours[name] for name in plain} == plain
    read, read_plain = (
        AutoConfig.from_pretrained(tmp_path / name).to_dict() for name in ("ours", "plain")
    )
    del read_plain["_name_or_path"]
    assert {name: read.get(name) for name in read_plain} == read_plain


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_for_all_is_read_as_the_same_model(family: str, tmp_path: Path) -> None:
    model = family_model(family)
    saved(tmp_path, model)
    back = load_model(Pretrained(path=str(tmp_path)), tokenizer=TOKENIZER, seed=0)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(back(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_a_tokenizer_has_a_class_and_names_that_older_readers_know(tmp_path: Path) -> None:
    described = saved(tmp_path, llama(), "tokenizer_config.json")
    assert described["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert described["additional_special_tokens"] == TOKENIZER.extra_special_tokens
    assert "extra_special_tokens" not in described  # which they take for a mapping
    back = load_tokenizer(Pretrained(path=str(tmp_path)))
    text = "<|user|>1+2=\tx y<|end|>"
    assert back(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert back.all_special_tokens == TOKENIZER.all_special_tokens
    assert back.chat_template == TOKENIZER.chat_template


def test_what_the_source_says_beside_it_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    model = llama()
    model.save_pretrained(source)
    TOKENIZER.save_pretrained(source)
    add(source / "config.json", rope_theta=1e5, torch_dtype="bfloat16", pretrained_by="us")
    remove(source / "config.json", "rope_parameters")
    add(source / "tokenizer_config.json", tokenizer_class="GPT2TokenizerFast", add_bos_token=False)
    settings = Pretrained(path=str(source))
    loaded = load_model(settings, tokenizer=TOKENIZER, seed=0)
    save_for_all_readers(folder := made(tmp_path / "saved"), loaded, load_tokenizer(settings))
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert (config["rope_theta"], config["pretrained_by"]) == (1e5, "us")
    assert config["dtype"] == config["torch_dtype"] == "float32"  # of these weights
    assert tokenizer["tokenizer_class"] == "GPT2TokenizerFast"
    assert tokenizer["add_bos_token"] is False
    ids = [AutoTokenizer.from_pretrained(path)("1+2= x")["input_ids"] for path in (source, folder)]
    assert ids[0] == ids[1]


def test_a_source_that_is_gone_is_not_needed(tmp_path: Path) -> None:
    llama(**rope(1e5)).save_pretrained(tmp_path / "source")
    model = load_model(Pretrained(path=str(tmp_path / "source")), tokenizer=TOKENIZER, seed=0)
    (tmp_path / "source").rename(tmp_path / "moved")
    assert saved(tmp_path / "saved", model)["rope_theta"] == 1e5


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def add(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def remove(file: Path, name: str) -> None:
    content = json.loads(file.read_text())
    del content[name]
    file.write_text(json.dumps(content))
