"""The arithmetic of an update and nothing else: forward, backward, AdamW, in plain PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from steadyrl.records.token_batch import TokenBatch


class BareLoop:
    """One AdamW step on given micro-batches of given tokens: no masks to check, nothing measured.

    Log-probabilities come from `cross_entropy` on the logits of the response tokens alone.
    """

    def __init__(self, model: PreTrainedModel, learning_rate: float) -> None:
        self._model = model
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )

    def update(self, micro_batches: Sequence[TokenBatch]) -> int:
        """Takes the step; returns the response tokens."""
        self._optimizer.zero_grad()
        tokens = 0
        for micro in micro_batches:
            logprobs, advantages = self._logprobs(micro)
            (-(advantages * logprobs).sum()).backward()
            tokens += len(logprobs)
        self._optimizer.step()
        return tokens

    def _logprobs(self, micro: TokenBatch) -> tuple[Tensor, Tensor]:
        device = self._model.device
        tokens, mask = micro.tokens.to(device), micro.loss_mask[:, 1:].to(device)
        positions = torch.arange(tokens.shape[1], device=device)[None]
        hidden = self._model.base_model(
            input_ids=tokens, position_ids=positions, use_cache=False
        ).last_hidden_state
        logits = self._model.lm_head(hidden[:, :-1][mask])
        targets = tokens[:, 1:][mask]
        advantages = micro.advantages[:, 1:].to(device)[mask]
        return -functional.cross_entropy(logits.float(), targets, reduction="none"), advantages
