"""Log quotients of whole sequences, from those of their tokens.

Two different quantities go by the name of a sequence's importance ratio: the quotient of the
sequence's probabilities, which is a product over its tokens, and the geometric mean of the same
factors, its |y|-th root. They have names of their own here.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from steadyrl.objectives.quotient import MAX_LOG_QUOTIENT


def log_product(
    log_quotients: Float[Tensor, "B T"], loss_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B 1"]:
    """Log prod_t q_t over the loss tokens of each row, at most `MAX_LOG_QUOTIENT`.

    0 for a row without loss tokens.
    """
    kept = log_quotients.masked_fill(~loss_mask, 0.0)
    return kept.sum(dim=1, keepdim=True).clamp(max=MAX_LOG_QUOTIENT)


def log_geometric_mean(
    log_quotients: Float[Tensor, "B T"], loss_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B 1"]:
    """(1 / |y|) log prod_t q_t over the |y| loss tokens of each row.

    0 for a row without loss tokens.
    """
    kept = log_quotients.masked_fill(~loss_mask, 0.0)
    lengths = loss_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return kept.sum(dim=1, keepdim=True) / lengths
