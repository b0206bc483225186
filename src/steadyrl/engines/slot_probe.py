"""Probe for slots: whether sequences of different lengths can share a batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.engines.slot_cache import SlotCache, ring_positions
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.output_head import OutputHead
from steadyrl.policies.probes import agree
from steadyrl.policies.sharing_probe import probe_rows
from steadyrl.policies.small_copy import FAILURES


@torch.no_grad()
def slot_cache_unsupported_reason(model: PreTrainedModel) -> str | None:
    """Reason why `model` cannot batch sequences of different lengths; None if it can."""
    family = type(model).__name__
    rows = probe_rows(model)
    tokens, lengths = rows.tokens[::2], rows.real[::2].sum(dim=1)  # a long one and a short one
    last = lengths[:, None] - 1
    columns = torch.arange(tokens.shape[1], device=tokens.device)[None]
    try:
        head, masks = OutputHead(model), AttentionMasks(model)
        expected = head.logits({"input_ids": tokens, "use_cache": False}, columns == last)
        found = _after_last(head, masks, tokens, last)
    except UserError as error:
        return str(error)
    except FAILURES as error:
        return f"{family} fails on a batch of sequences with different lengths: {error}."
    if not agree(found, expected):
        return (
            f"{family} computes different results if sequences of different lengths share a batch."
        )
    return None


def _after_last(
    head: OutputHead, masks: AttentionMasks, tokens: Int[Tensor, "2 T"], last: Int[Tensor, "2 1"]
) -> Float[Tensor, "2 V"]:
    """Logits after the token `last` of each row, fed alone after cached keys and values."""
    columns = torch.arange(tokens.shape[1], device=tokens.device)[None]
    prefilled, cache = DynamicCache(), SlotCache(2, tokens.shape[1], window_of=masks.window_of)
    inputs = {
        "input_ids": tokens[:, :-1],
        "position_ids": columns[:, :-1],
        "past_key_values": prefilled,
        "use_cache": True,
    }
    head.logits(inputs, columns[:, :-1] == last)
    rows = torch.arange(2, device=tokens.device)
    cache.admit(prefilled, rows, rows, last[:, 0])
    cache.begin_step(last[:, 0], tokens.shape[1])
    window = masks.window
    in_window = None if window is None else ring_positions(last[:, 0], columns[0, :window], window)
    inputs = {
        "input_ids": tokens.gather(1, last),
        "position_ids": last,
        "attention_mask": masks.of(last, columns, in_window=in_window),
        "past_key_values": cache,
        "use_cache": True,
    }
    return head.logits(inputs, None)
