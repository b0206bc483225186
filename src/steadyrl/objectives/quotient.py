"""Log quotients of probabilities."""

import torch
from jaxtyping import Float
from torch import Tensor

MAX_LOG_QUOTIENT = 40.0
"""Upper bound of a log quotient. exp(40) is about 2e17, and its square still fits in float32."""


def log_quotient(
    numerator_logprobs: Float[Tensor, "*shape"], denominator_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """log(numerator / denominator), at most `MAX_LOG_QUOTIENT`.

    With probabilities of 0, whose logarithm is -inf:
        0 / 0 is 1: both policies agree, so the log is 0;
        p / 0 is the bound;
        0 / p is 0, so the log is -inf, and its exponential is exactly 0.
    The gradient is 0 in all three cases once the exponential is taken, and beyond the bound.
    NaN stays NaN.
    """
    both_zero = torch.isneginf(numerator_logprobs) & torch.isneginf(denominator_logprobs)
    numerator = numerator_logprobs.masked_fill(both_zero, 0.0)
    denominator = denominator_logprobs.masked_fill(both_zero, 0.0)
    return (numerator - denominator).clamp(max=MAX_LOG_QUOTIENT)
