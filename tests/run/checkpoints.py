"""Checkpoints on disk, as a user would bring them."""

from pathlib import Path

import torch
from transformers import JetMoeConfig, JetMoeForCausalLM

from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallDense, SmallMoE
from steadyrl.policies.tokenizers import CHAT_TEMPLATE, END

DENSE = SmallDense(width=16, layers=1, heads=2, kv_heads=1, head_dim=8, mlp_width=16)


def write_checkpoint(
    path: Path,
    settings: SmallDense | SmallMoE = DENSE,
    *,
    eos_token: str = END,
    chat_template: str = CHAT_TEMPLATE,
) -> Path:
    """A model of a preset, with its tokenizer."""
    tokenizer = load_tokenizer(settings)
    tokenizer.eos_token, tokenizer.chat_template = eos_token, chat_template
    load_model(settings, tokenizer=tokenizer, seed=3).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def write_unhookable_moe(path: Path) -> Path:
    """A Mixture-of-Experts model whose routers routing replay does not know."""
    tokenizer = load_tokenizer(DENSE)
    config = JetMoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_key_value_heads=2,
        kv_channels=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        intermediate_size=8,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    JetMoeForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
