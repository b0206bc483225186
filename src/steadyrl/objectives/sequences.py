"""Log quotients of whole responses, computed from the log quotients of their tokens.

Two quantities are called the importance ratio of a sequence: the quotient of the sequence
probabilities, which is a product over tokens, and the geometric mean of the same factors. They have
different names here.

Rows with equal `response_ids` are one response; without ids, each row is a response. All rows of a
response must be present.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.objectives.grouping import Grouping
from steadyrl.objectives.quotient import MAX_LOG_QUOTIENT


def log_product(
    log_quotients: Float[Tensor, "B T"],
    loss_mask: Bool[Tensor, "B T"],
    response_ids: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B 1"]:
    """Log prod_t q_t over the loss tokens of each row's response, at most `MAX_LOG_QUOTIENT`.

    0 for a response without loss tokens.
    """
    sums = _sums(log_quotients, loss_mask, response_ids)
    return sums.clamp(max=MAX_LOG_QUOTIENT)


def log_geometric_mean(
    log_quotients: Float[Tensor, "B T"],
    loss_mask: Bool[Tensor, "B T"],
    response_ids: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B 1"]:
    """(1 / |y|) log prod_t q_t over the |y| loss tokens of each row's response.

    0 for a response without loss tokens.
    """
    lengths = _sums(loss_mask.to(log_quotients.dtype), loss_mask, response_ids).clamp(min=1)
    return _sums(log_quotients, loss_mask, response_ids) / lengths


def _sums(
    values: Float[Tensor, "B T"],
    loss_mask: Bool[Tensor, "B T"],
    response_ids: Int[Tensor, " B"] | None,
) -> Float[Tensor, "B 1"]:
    """For each row, the sum of `values` over the loss tokens of its response."""
    sums = values.masked_fill(~loss_mask, 0.0).sum(dim=1)
    if response_ids is not None:
        sums = Grouping.by(response_ids).total(sums)
    return sums.unsqueeze(1)
