"""Lengths of responses: a log-normal distribution, cut off at the maximum."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

QUANTILES = 512
"""Equally likely lengths that stand for the distribution where it is averaged."""

HALVINGS = 60
"""Of the interval in which the median of the distribution is searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLengths:
    """Tokens of a response: log-normal, cut off at `maximum`, with mean `mean` after the cut.

    Example:
        ResponseLengths(mean=8000.0, maximum=32768, spread=0.6)
    """

    mean: float
    maximum: int

    spread: float
    """Standard deviation of the lengths before the cut, as a share of their mean. 0: all alike."""

    def __post_init__(self) -> None:
        assert 0 < self.mean <= self.maximum, "the mean lies within the lengths"

    def quantiles(self, count: int) -> list[float]:
        """`count` equally likely lengths, the shortest first."""
        return self._lengths(_levels(count)).tolist()

    def draw(self, count: int, random: np.random.Generator) -> list[float]:
        """`count` independent lengths."""
        return self._lengths(random.standard_normal(count)).tolist()

    @property
    def mean_square(self) -> float:
        """Mean of the squared length."""
        return float(np.square(self._lengths(_levels(QUANTILES))).mean())

    def _lengths(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lengths at these values of a standard normal variable."""
        median = _median(self.mean, self.maximum, self.spread)
        return _cut(median * np.exp(_sigma(self.spread) * levels), self.maximum)


def _sigma(spread: float) -> float:
    """Standard deviation of the logarithm."""
    return float(np.sqrt(np.log1p(spread * spread)))


def _levels(count: int) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = ndtri((np.arange(count) + 0.5) / count)
    return levels


def _cut(lengths: NDArray[np.float64], maximum: int) -> NDArray[np.float64]:
    return np.clip(lengths, 1.0, float(maximum))


@lru_cache(maxsize=256)
def _median(mean: float, maximum: int, spread: float) -> float:
    """The median that gives the mean; by bisection, since the cut lowers the mean."""
    factors = np.exp(_sigma(spread) * _levels(QUANTILES))
    low, high = 0.0, float(maximum / factors.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _cut(middle * factors, maximum).mean() < mean:
            low = middle
        else:
            high = middle
    return high
