"""Which models have experts, and routers that can be found."""

import pytest
from transformers import (
    DogeConfig,
    DogeForCausalLM,
    JetMoeConfig,
    JetMoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.routers import find_routers, is_moe
from tests.policies.families import FAMILIES, SHARED

SIZES = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 1, "num_key_value_heads": 1}
IDS = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}


def switch() -> PreTrainedModel:
    config = SwitchTransformersConfig(
        vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2, num_experts=2
    )
    return SwitchTransformersForConditionalGeneration(config)


def doge(*, is_moe: bool) -> PreTrainedModel:
    """Its configuration counts experts in either case."""
    config = DogeConfig(**SIZES, **HEADS, **IDS, num_experts=4, is_moe=is_moe)
    return DogeForCausalLM(config)


def jetmoe() -> PreTrainedModel:
    config = JetMoeConfig(**SIZES, **IDS, num_key_value_heads=1, kv_channels=8, num_local_experts=2)
    return JetMoeForCausalLM(config)


def qwen3_moe_of_dense_layers() -> PreTrainedModel:
    config = Qwen3MoeConfig(
        **SHARED, head_dim=16, num_experts=8, intermediate_size=16, mlp_only_layers=[0, 1, 2]
    )
    return Qwen3MoeForCausalLM(config)


def test_models_with_experts_are_told_apart_from_dense_ones() -> None:
    assert all(is_moe(build()) for build in FAMILIES.values())
    assert is_moe(switch())
    assert is_moe(jetmoe())
    assert is_moe(doge(is_moe=True))
    assert not is_moe(doge(is_moe=False))
    assert not is_moe(LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, **IDS)))
    assert not is_moe(qwen3_moe_of_dense_layers())


def test_family_without_known_routers_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"LlamaForCausalLM has no router .* 'router_logits'"):
        find_routers(LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, **IDS)))
