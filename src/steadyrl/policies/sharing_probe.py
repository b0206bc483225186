"""The probe that checks whether a model supports shared prefixes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.positions import max_positions
from steadyrl.policies.probes import agree
from steadyrl.policies.small_copy import FAILURES
from steadyrl.policies.tokenizers import character_tokenizer

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


def changed_by_sharing(model: PreTrainedModel) -> str | None:
    """Probe for sharing of prefixes: whether scores change if common prefixes are computed once."""
    from steadyrl.policies.policy import Policy  # it asks this probe

    family = type(model).__name__
    tokenizer = character_tokenizer()  # not used by scores
    *rows, prefix_groups = probe_rows(model)
    try:
        try:
            policy = Policy(model, tokenizer)
        except UserError:  # routers that do not support replay
            policy = Policy(model, tokenizer, hook_routing=False)
        whole = policy.score(*rows, record_routing=True)
        shared = policy.score(*rows, replay=whole.routing, prefix_groups=prefix_groups)
    except UserError as error:
        return str(error)
    except FAILURES as error:
        return f"{family} fails at it: {error}"
    if not agree(shared.logprobs, whole.logprobs):
        return f"{family} computes something else then."
    return None
