"""Small models of families that vLLM serves on the CPU, with random weights."""

import torch
from transformers import (
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer

_SIZES = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    # Standard sizes would make all tokens about equally likely, and every error a small one.
    "initializer_range": 0.15,
}


def qwen3_moe(dtype: torch.dtype = torch.float32, *, seed: int = 0) -> Policy:
    """A Qwen3-MoE of four layers, of which the second is dense."""
    config = Qwen3MoeConfig(
        vocab_size=len(character_tokenizer()),
        num_hidden_layers=4,
        head_dim=32,
        moe_intermediate_size=32,
        num_experts=8,
        num_experts_per_tok=2,
        mlp_only_layers=[1],
        norm_topk_prob=True,
        **_SIZES,
    )
    return _policy(Qwen3MoeForCausalLM, config, dtype, seed)


def olmoe(
    dtype: torch.dtype = torch.float32, *, seed: int = 0, norm_topk_prob: bool = False
) -> Policy:
    """An OLMoE of two layers.

    Args:
        norm_topk_prob: Divide gate weights by their sum, which OLMoE in vLLM never does.
    """
    config = OlmoeConfig(
        vocab_size=len(character_tokenizer()),
        num_hidden_layers=2,
        eos_token_id=None,
        num_experts=8,
        num_experts_per_tok=2,
        norm_topk_prob=norm_topk_prob,
        **_SIZES,
    )
    return _policy(OlmoeForCausalLM, config, dtype, seed)


def qwen3(
    dtype: torch.dtype = torch.float32, *, seed: int = 0, tied: bool = False, head_dim: int = 32
) -> Policy:
    """A dense Qwen3 of two layers.

    Args:
        tied: Whether the head's weights are those of the embedding.
    """
    config = Qwen3Config(
        vocab_size=len(character_tokenizer()),
        num_hidden_layers=2,
        head_dim=head_dim,
        tie_word_embeddings=tied,
        **_SIZES,
    )
    return _policy(Qwen3ForCausalLM, config, dtype, seed)


def _policy(family: type[PreTrainedModel], config: object, dtype: torch.dtype, seed: int) -> Policy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family(config).to(dtype).eval()
    return Policy(model, character_tokenizer())
