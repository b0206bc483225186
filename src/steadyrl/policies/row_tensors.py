"""Model inputs for whole rows, and values at some of their positions."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def whole_rows(tokens: Int[Tensor, "B T"]) -> dict[str, Any]:
    """Model inputs for whole rows. No attention mask is needed: padding is on the right, so the
    causal mask hides it from all tokens.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
    return {"input_ids": tokens, "position_ids": positions, "use_cache": False}


def at_positions(values: Float[Tensor, " N"], selected: Bool[Tensor, "B S"]) -> Tensor:
    """`values` at the selected positions, zeros elsewhere and in a new first column."""
    spread = values.new_zeros(selected.shape).masked_scatter(selected, values)
    return nn.functional.pad(spread, (1, 0))
