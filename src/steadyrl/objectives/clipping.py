"""Which tokens have moved far enough: the decoupled, one-sided mask of MiniRL."""

from jaxtyping import Bool, Float
from torch import Tensor

from steadyrl.objectives.limits import Limited


def above_clip(
    log_ratio: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"], clip_high: float
) -> Bool[Tensor, "*shape"]:
    """Tokens to be made likelier although their ratio exceeds 1 + clip_high.

    A ratio equal to the bound does not exceed it. `math.inf` as the bound selects none.
    """
    return (advantages > 0) & (log_ratio.exp() > 1 + clip_high)


def below_clip(
    log_ratio: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"], clip_low: float
) -> Bool[Tensor, "*shape"]:
    """Tokens to be made less likely although their ratio is below 1 - clip_low.

    A ratio equal to the bound is not below it. `math.inf` as the bound selects none.
    """
    return (advantages < 0) & (log_ratio.exp() < 1 - clip_low)


def clip_limits(
    log_ratio: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    clip_low: float,
    clip_high: float,
) -> Limited:
    """Tokens that are stopped at their bound, by the sign of their advantage."""
    return Limited(
        clipped_low=below_clip(log_ratio, advantages, clip_low),
        clipped_high=above_clip(log_ratio, advantages, clip_high),
    )
