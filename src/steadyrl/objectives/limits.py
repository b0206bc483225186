"""Which tokens meet a limit of the objective: stopped, cut in weight, or left out.

Every objective and correction that has limits has a function beside it that says of the same terms,
under the same options, which tokens meet them.
"""

from dataclasses import dataclass, fields

from jaxtyping import Bool
from torch import Tensor

from steadyrl.objectives.terms import TokenTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """Tokens that meet each kind of limit, none outside the loss mask. None: no such limit.

    Example:
        minirl_limits(terms) | truncation_limits(terms, cap=2.0)
    """

    clipped_low: Bool[Tensor, "B T"] | None = None
    """Stopped by the trust region on their way down."""

    clipped_high: Bool[Tensor, "B T"] | None = None
    """Stopped by the trust region on their way up."""

    truncated: Bool[Tensor, "B T"] | None = None
    """Whose weight is above its cap."""

    masked: Bool[Tensor, "B T"] | None = None
    """Left out by a correction."""

    def __or__(self, other: "Limited") -> "Limited":
        """Tokens that meet a limit of either."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Limited(**{name: _either(*pair) for name, pair in pairs.items()})


def unlimited(terms: TokenTerms) -> Limited:
    """That of an objective without limits."""
    return Limited()


def _either(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other
