"""Log quotients of probabilities."""

import torch
from jaxtyping import Float
from torch import Tensor

MAX_LOG_QUOTIENT = 40.0
"""Upper bound of a log quotient. exp(40) is about 2e17, whose square still fits in float32."""


def log_quotient(
    numerator_logprobs: Float[Tensor, "*shape"], denominator_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """log(numerator / denominator), at most `MAX_LOG_QUOTIENT`.

    Probabilities of 0, whose logarithm is -inf, give:
        0 / 0: log 1 = 0, since both policies agree;
        p / 0: the bound;
        0 / p: -inf, whose exponential is exactly 0.
    The gradient of the exponential is 0 in all three cases, and beyond the bound. NaN is passed
    through.
    """
    both_zero = torch.isneginf(numerator_logprobs) & torch.isneginf(denominator_logprobs)
    numerator = numerator_logprobs.masked_fill(both_zero, 0.0)
    denominator = denominator_logprobs.masked_fill(both_zero, 0.0)
    return (numerator - denominator).clamp(max=MAX_LOG_QUOTIENT)
