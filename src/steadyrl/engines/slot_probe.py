"""Whether a model computes the same when its sequences are written in slots."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.slot_cache import SlotCache
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.sharing_probe import probe_rows

TOLERANCE = torch.finfo(torch.float32).eps ** 0.5


@torch.no_grad()
def obstacle_to_slots(model: EngineModel, masks: AttentionMasks) -> str | None:
    """Why `model` cannot write sequences of different lengths at once; None if it can.

    A model of lower precision than float32 only must not fail: its rounding may hide the rest.
    """
    family = type(model.model).__name__
    rows = probe_rows(model.model)
    tokens, lengths = rows.tokens[::2], rows.real[::2].sum(dim=1)  # a long one and a short one
    last = lengths[:, None] - 1
    columns = torch.arange(tokens.shape[1], device=tokens.device)[None]
    try:
        expected = model.head.logits({"input_ids": tokens, "use_cache": False}, columns == last)
        found = _after_last(model, masks, tokens, last)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        return f"{family} fails to write sequences of different lengths at once: {error}."
    exact = not model.is_rounded
    if exact and not torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        return f"{family} computes something else when sequences of different lengths are written."
    return None


def _after_last(
    model: EngineModel, masks: AttentionMasks, tokens: Int[Tensor, "2 T"], last: Int[Tensor, "2 1"]
) -> Float[Tensor, "2 V"]:
    """Logits after the token `last` of each row, which is fed alone behind keys and values."""
    columns = torch.arange(tokens.shape[1], device=tokens.device)[None]
    prefilled, cache = DynamicCache(), SlotCache(2, tokens.shape[1])
    inputs = {
        "input_ids": tokens[:, :-1],
        "position_ids": columns[:, :-1],
        "past_key_values": prefilled,
        "use_cache": True,
    }
    model.head.logits(inputs, columns[:, :-1] == last)
    rows = torch.arange(2, device=tokens.device)
    cache.admit(prefilled, rows, rows)
    cache.begin_step(last[:, 0], tokens.shape[1])
    inputs = {
        "input_ids": tokens.gather(1, last),
        "position_ids": last,
        "attention_mask": masks.of(last, columns),
        "past_key_values": cache,
        "use_cache": True,
    }
    return model.head.logits(inputs, None)
