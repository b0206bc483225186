"""Token rows for the probe that checks whether a model supports shared prefixes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.policies.positions import max_positions

WINDOW_NAMES = ("sliding_window", "sliding_window_size", "window_size", "attention_window_size")

LONGEST_WINDOW = 256
"""Longest probed window. Only families without a small copy can have longer windows."""

ENDING = 3
"""Number of tokens of each row that are not shared."""


class ProbeRows(NamedTuple):
    """Two groups of two rows: one shares more tokens than a window, the other a single token.

    So the columns of some keys differ from their positions.
    """

    tokens: Int[Tensor, "4 T"]
    real: Bool[Tensor, "4 T"]
    score_mask: Bool[Tensor, "4 T"]
    prefix_groups: Int[Tensor, "4"]


def probe_rows(model: PreTrainedModel) -> ProbeRows:
    """Rows for `model`, within its maximum number of positions."""
    config = model.config.get_text_config()
    values = [getattr(config, name, None) for name in WINDOW_NAMES]
    windows = [value for value in values if isinstance(value, int) and value <= LONGEST_WINDOW]
    length = max([2 * ENDING, *windows]) + 2 * ENDING
    length = min(length, max_positions(model) or length)
    tokens = torch.arange(length).square().remainder(3).expand(4, -1).clone()
    lengths = torch.tensor([length, length, 1 + ENDING, 1 + ENDING])
    begins = lengths - ENDING
    for row, begin in enumerate(begins.tolist()):
        tokens[row, begin] = row % 2  # ends the shared prefix
    columns = torch.arange(length)
    real = columns < lengths[:, None]
    score_mask = real & (columns >= begins[:, None])
    rows = ProbeRows(tokens.where(real, 0), real, score_mask, torch.tensor([0, 0, 1, 1]))
    return ProbeRows(*(part.to(model.device) for part in rows))
