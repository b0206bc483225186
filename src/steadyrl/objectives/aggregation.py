"""Aggregation of per-token objectives into one loss.

Token weights are computed once per mini-batch. So the loss does not change if it is summed over
micro-batches, or if rows whose objective is 0 are skipped.
"""

from enum import StrEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives.grouping import Grouping


class Aggregation(StrEnum):
    """Weight of a token of response `i`, which has |y_i| loss tokens in one or several rows.

    A mini-batch has `Y` responses to `P` prompts. The rows of a prompt form a group.
    """

    TOKEN_SUM = "token_sum"
    """1 / Y: sum over tokens, mean over responses (MiniRL, arXiv:2512.01374, equation 7)."""

    LENGTH_NORM = "length_norm"
    """1 / (Y |y_i|): mean over a response's tokens (GRPO, arXiv:2402.03300, equation 3)."""

    TOKEN_MEAN = "token_mean"
    """1 / sum_i |y_i|: mean over all tokens of the batch."""

    GROUP_TOKEN_MEAN = "group_token_mean"
    """1 / (P sum_{j in group of i} |y_j|): mean over a group's tokens, then over groups
    (DAPO, arXiv:2503.14476, equation 8; CISPO, arXiv:2506.13585, equation 4)."""

    CONSTANT = "constant"
    """1 / (Y constant_length): independent of the sampled lengths
    (Dr. GRPO, arXiv:2503.20783)."""


def token_weights(
    loss_mask: Bool[Tensor, "B T"],
    group_ids: Int[Tensor, " B"],
    aggregation: Aggregation,
    *,
    response_ids: Int[Tensor, " B"] | None = None,
    constant_length: int | None = None,
) -> Float[Tensor, "B T"]:
    """Token weights, such that loss = -(weights * objective).sum().

    Weights are 0 outside the loss mask. A response without loss tokens still counts in `Y`, and its
    group in `P`.

    Args:
        loss_mask: Loss mask of all rows of the mini-batch.
        group_ids: Rows with equal ids were sampled for the same prompt.
        aggregation: Definition of the weights.
        response_ids: Rows with equal ids are one response; None: each row is a response.
        constant_length: Maximum response length in tokens, for `CONSTANT` only.

    Raises:
        UserError: `constant_length` is missing, not positive, or given for another aggregation.
    """
    _check_constant_length(aggregation, constant_length)
    lengths = loss_mask.sum(dim=1).to(torch.get_default_dtype())
    groups = Grouping.by(group_ids)
    rows = torch.arange(len(loss_mask), device=loss_mask.device)
    responses = Grouping.by(rows if response_ids is None else response_ids)
    count = torch.full_like(lengths, len(responses.ids))
    match aggregation:
        case Aggregation.TOKEN_SUM:
            divisors = count
        case Aggregation.LENGTH_NORM:
            divisors = count * responses.total(lengths)
        case Aggregation.TOKEN_MEAN:
            divisors = lengths.sum().expand_as(lengths)
        case Aggregation.GROUP_TOKEN_MEAN:
            divisors = len(groups.ids) * groups.total(lengths)
        case Aggregation.CONSTANT:
            assert constant_length is not None
            divisors = count * constant_length
    # Rows with a divisor of 0 have no loss tokens, so any other divisor gives the same weights.
    return loss_mask / divisors.clamp(min=1).unsqueeze(1)


def aggregate(objective: Float[Tensor, "B T"], weights: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
    """The loss to minimize. This is the only place where the sign of the objective changes.

    loss = -sum_{i,t} weights_it J_it
    """
    return -(weights * objective).sum()


def _check_constant_length(aggregation: Aggregation, constant_length: int | None) -> None:
    if (aggregation is Aggregation.CONSTANT) != (constant_length is not None):
        raise UserError(
            f"constant_length is used by aggregation '{Aggregation.CONSTANT}' only, got "
            f"constant_length={constant_length} with aggregation '{aggregation}'. "
            f"Set constant_length with '{Aggregation.CONSTANT}', and leave it out otherwise."
        )
    if constant_length is not None and constant_length < 1:
        raise UserError(
            f"constant_length must be at least 1 token, got {constant_length}. "
            "Set it to the maximum response length."
        )
