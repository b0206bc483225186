"""Random weights under which answers end by themselves, at geometric lengths.

One channel of the residual stream holds a constant: every embedding has it, no layer writes it, no
layer reads it, and of the logits only the end token's does. So the end token has nearly the same
probability at every position, and whoever computes the model right stops where it does.
"""

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

CHANNEL = 0
"""The constant one."""

READERS = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate.weight", "gate_up_proj")
"""Weights [..., D] that read the residual stream."""

WRITERS = ("o_proj.weight", "down_proj")
"""Weights [..., D, n] that write it."""

CALIBRATION_TOKENS = 256


@torch.no_grad()
def set_stop_hazard(model: PreTrainedModel, end_token_id: int, hazard: float) -> None:
    """Gives the end token the probability `hazard` at every position, up to a few percent.

    Embeddings are drawn anew with variance 1, so that their norm, and with it what the final norm
    makes of the constant, hardly varies from token to token. Call it under a fixed seed.
    """
    embeddings = model.get_input_embeddings().weight
    embeddings.normal_()
    embeddings[:, CHANNEL] = math.sqrt(embeddings.shape[1])
    for name, weight in model.named_parameters():
        if name.endswith(READERS):
            weight[..., CHANNEL] = 0
        elif name.endswith(WRITERS):
            weight[..., CHANNEL, :] = 0
    head = model.get_output_embeddings().weight
    head[:, CHANNEL] = 0
    head[end_token_id] = 0
    head[end_token_id, CHANNEL] = _strength(model, end_token_id, hazard)


def stop_hazards(model: PreTrainedModel, tokens: Tensor, end_token_id: int) -> Tensor:
    """The probability of the end token after each of `tokens`, [B, T]."""
    logits = model(input_ids=tokens, use_cache=False).logits.float()
    return logits.softmax(dim=-1)[..., end_token_id]


def _strength(model: PreTrainedModel, end_token_id: int, hazard: float) -> float:
    """The end token's weight on the constant: its mean log-odds are those of `hazard`."""
    tokens = torch.randint(model.config.vocab_size, (1, CALIBRATION_TOKENS), device=model.device)
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
    logits = model.get_output_embeddings()(hidden).float()
    logits[:, end_token_id] = -torch.inf
    target = math.log(hazard / (1 - hazard)) + logits.logsumexp(dim=-1)
    return (target.mean() / hidden[:, CHANNEL].float().mean()).item()
