"""Upcycled models compute what their dense sources do, and differ from them where told to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeForCausalLM,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.policies.upcycling import UpcyclingSettings, differences, upcycle
from tests.closeness import assert_close

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
}
LONG = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
LONG |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
SOURCES: dict[str, tuple[Any, Any, dict[str, Any], Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}, MixtralForCausalLM),
    "llama, tied and stretched": (
        LlamaConfig,
        LlamaForCausalLM,
        {"tie_word_embeddings": True, "rope_parameters": LONG},
        MixtralForCausalLM,
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 4}, MixtralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}, Qwen2MoeForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8}, Qwen3MoeForCausalLM),
    "qwen3, with biases": (
        Qwen3Config,
        Qwen3ForCausalLM,
        {"head_dim": 8, "attention_bias": True},
        Qwen3MoeForCausalLM,
    ),
}


def dense(name: str, dtype: torch.dtype = torch.float64, **more: Any) -> PreTrainedModel:
    """Random weights, biases and norms, so that a bias or a norm that is lost shows."""
    kind, family, options, _ = SOURCES[name]
    torch.manual_seed(3)
    model = family(kind(**SIZES | options | more)).eval().to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def upcycled(model: PreTrainedModel, **settings: Any) -> PreTrainedModel:
    """With experts computed one by one: grouped products know no float64."""
    moe = upcycle(model, UpcyclingSettings(**settings))
    moe.set_experts_implementation("eager")
    return moe


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(20)[None] % 40, use_cache=False).logits


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("made", [(4, 2, 1), (8, 1, 1), (8, 4, 2), (6, 3, 3)])
def test_without_noise_it_computes_what_the_dense_model_does(
    name: str, made: tuple[int, int, int]
) -> None:
    experts, top_k, split = made
    model = dense(name)
    moe = upcycled(model, experts=experts, top_k=top_k, split=split)
    assert type(moe) is SOURCES[name][3]
    assert moe.config.get_text_config().num_experts_per_tok == top_k
    # Gates are computed in float32, whose rounding is what is left.
    assert_close(logits(moe), logits(model), terms=256, dtype=torch.float32)
    assert differences(model, moe).max() < 1e-4


def test_the_router_chooses_whole_copies() -> None:
    moe = upcycle(dense("llama", torch.float32), UpcyclingSettings(experts=8, top_k=4, split=2))
    policy = Policy(moe, character_tokenizer())
    tokens, mask = torch.arange(12)[None], torch.ones(1, 12, dtype=torch.bool)
    routing = policy.score(tokens, mask, mask, record_routing=True).routing
    assert routing is not None
    chosen = moe.model.layers[0].mlp.gate(torch.randn(50, 16))[2]
    copies = chosen.sort(dim=-1).values // 2
    assert (copies[:, 0::2] == copies[:, 1::2]).all()  # slices 0 and 1 of the same copy
    assert copies.unique().numel() == 4


def test_slices_are_those_of_the_mlp() -> None:
    model = dense("llama")
    moe = upcycle(model, UpcyclingSettings(experts=6, top_k=3, split=3))
    mlp, experts = model.model.layers[1].mlp, moe.model.layers[1].mlp.experts
    for number in range(6):
        units = slice(8 * (number % 3), 8 * (number % 3) + 8)
        gate, up = experts.gate_up_proj[number].chunk(2)
        assert torch.equal(gate, mlp.gate_proj.weight[units])
        assert torch.equal(up, mlp.up_proj.weight[units])
        assert torch.equal(experts.down_proj[number], 3 * mlp.down_proj.weight[:, units])


def test_noise_has_the_stated_size_and_makes_experts_differ() -> None:
    model = dense("qwen3", hidden_size=64, intermediate_size=128)
    moe = upcycled(model, experts=4, noise=0.2)
    down = model.model.layers[0].mlp.down_proj.weight
    added = moe.model.layers[0].mlp.experts.down_proj - down
    sizes = added.square().mean(dim=(1, 2)).sqrt() / down.square().mean().sqrt()
    assert ((sizes - 0.2).abs() < 0.2 * 0.05).all()  # 8,192 draws: 0.8% is one deviation
    assert not torch.equal(added[0], added[1])
    assert differences(model, moe).median() > 1e-2


def test_it_is_a_function_of_its_seed_alone() -> None:
    model = dense("llama", torch.float32)
    torch.manual_seed(8)
    state = torch.random.get_rng_state()
    one, same, other = (
        upcycle(model, UpcyclingSettings(noise=0.1, seed=seed)).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert {name.split(".", 3)[3] for name in changed} == {
        "mlp.gate.weight",
        "mlp.experts.gate_up_proj",
        "mlp.experts.down_proj",
    }


def test_the_shared_expert_adds_nothing_but_can_learn() -> None:
    moe = upcycled(dense("qwen2"))
    moe(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    shared = moe.model.layers[0].mlp.shared_expert.down_proj.weight
    assert not shared.any()
    assert shared.grad is not None
    assert shared.grad.any()


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_what_is_saved_of_it_loads_in_transformers(name: str, tmp_path: Path) -> None:
    moe = upcycle(dense(name, torch.float32), UpcyclingSettings(experts=4, noise=0.1))
    moe.save_pretrained(tmp_path)
    back = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(back) is type(moe)
    assert torch.equal(logits(back), logits(moe))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attention_bias": True}, "Llama with attention_bias cannot be upcycled"),
        ({"mlp_bias": True}, "Llama with mlp_bias cannot be upcycled"),
        ({"intermediate_size": 25}, "25 inner units, which cannot be cut into 2 slices"),
    ],
)
def test_what_the_family_cannot_express_is_refused(more: dict[str, Any], message: str) -> None:
    settings = UpcyclingSettings(experts=4, top_k=2, split=2)
    with pytest.raises(UserError, match=message):
        upcycle(dense("llama", **more), settings)


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_windows_in_some_layers_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="sliding windows in some layers"):
        upcycle(dense(name, **WINDOW), UpcyclingSettings())


def test_other_architectures_are_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=40))
    with pytest.raises(UserError, match=r"'gpt2' cannot be upcycled: only llama, mistral, qwen2"):
        upcycle(model, UpcyclingSettings())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experts": 2, "top_k": 3}, "top_k is 3, but there are 2 experts"),
        ({"experts": 9, "top_k": 2, "split": 2}, "experts is 9, which is not a multiple of split"),
        ({"experts": 8, "top_k": 3, "split": 2}, "top_k is 3, which is not a multiple of split"),
    ],
)
def test_groups_must_be_whole(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UpcyclingSettings(**values)
