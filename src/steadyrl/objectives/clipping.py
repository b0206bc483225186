"""Masks of the tokens that an objective clips, truncates or masks out."""

from dataclasses import dataclass, fields

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipMasks:
    """Tokens affected by each kind of bound; None: the objective has no such bound.

    Entries outside the loss mask are ignored.

    Example:
        MiniRL().masks(terms) | Truncation(cap=2.0).masks(terms)
    """

    clipped_low: Bool[Tensor, "B T"] | None = None
    """Clipped at the lower bound of the trust region."""

    clipped_high: Bool[Tensor, "B T"] | None = None
    """Clipped at the upper bound of the trust region."""

    truncated: Bool[Tensor, "B T"] | None = None
    """Truncated because the weight exceeds its cap."""

    masked: Bool[Tensor, "B T"] | None = None
    """Masked out by a correction."""

    def __or__(self, other: "ClipMasks") -> "ClipMasks":
        """Elementwise union of both."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return ClipMasks(**{name: _either(*pair) for name, pair in pairs.items()})


def clip_by_advantage(
    log_ratio: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    clip_low: float,
    clip_high: float,
) -> ClipMasks:
    """Tokens outside the one-sided trust region of MiniRL and PPO, by the sign of the advantage."""
    return ClipMasks(
        clipped_low=below_clip(log_ratio, advantages, clip_low),
        clipped_high=above_clip(log_ratio, advantages, clip_high),
    )


def above_clip(
    log_ratio: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"], clip_high: float
) -> Bool[Tensor, "*shape"]:
    """Tokens with A > 0 whose ratio exceeds 1 + clip_high.

    A ratio equal to the bound does not exceed it. `math.inf` as the bound selects none.
    """
    return (advantages > 0) & (log_ratio.exp() > 1 + clip_high)


def below_clip(
    log_ratio: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"], clip_low: float
) -> Bool[Tensor, "*shape"]:
    """Tokens with A < 0 whose ratio is below 1 - clip_low.

    A ratio equal to the bound is not below it. `math.inf` as the bound selects none.
    """
    return (advantages < 0) & (log_ratio.exp() < 1 - clip_low)


def _either(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other
