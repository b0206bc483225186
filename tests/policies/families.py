"""Small models of every Mixture-of-Experts family that the routing hook is tested on."""

from collections.abc import Callable

import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

VOCABULARY = 48
SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
DEEPSEEK = {
    **SHARED,
    "n_routed_experts": 8,
    "moe_intermediate_size": 16,
    "intermediate_size": 16,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
"""Three layers, of which the first is dense."""


def qwen3_moe() -> PreTrainedModel:
    config = Qwen3MoeConfig(
        **SHARED, head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16
    )
    return Qwen3MoeForCausalLM(config)


def qwen2_moe() -> PreTrainedModel:
    config = Qwen2MoeConfig(
        **SHARED,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    return Qwen2MoeForCausalLM(config)


def olmoe() -> PreTrainedModel:
    config = OlmoeConfig(**SHARED, num_experts=8, num_experts_per_tok=2, intermediate_size=16)
    return OlmoeForCausalLM(config)


def mixtral() -> PreTrainedModel:
    config = MixtralConfig(
        **SHARED, head_dim=16, num_local_experts=8, num_experts_per_tok=2, intermediate_size=16
    )
    return MixtralForCausalLM(config)


def deepseek_v3() -> PreTrainedModel:
    config = DeepseekV3Config(
        **DEEPSEEK,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
    )
    return DeepseekV3ForCausalLM(config)


def gpt_oss() -> PreTrainedModel:
    config = GptOssConfig(
        **SHARED,
        head_dim=16,
        num_local_experts=8,
        num_experts_per_tok=2,
        intermediate_size=16,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    return GptOssForCausalLM(config)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen3_moe": qwen3_moe,
    "qwen2_moe": qwen2_moe,
    "olmoe": olmoe,
    "mixtral": mixtral,
    "deepseek_v3": deepseek_v3,
    "gpt_oss": gpt_oss,
}


def scaled_up(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """A model with weights large enough that its outputs differ from token to token."""
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(5)
            else:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


def family_model(name: str) -> PreTrainedModel:
    """A model of the family, with weights large enough that experts differ."""
    return scaled_up(FAMILIES[name])
