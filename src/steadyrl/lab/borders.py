"""The border dose, at which half of the runs show an event, and the dose to run next.

A run at dose d shows the event with probability

    P(d) = LAPSE + (1 - 2 LAPSE) Phi((log2 d - log2 b) / s)

where
    b       border;
    s       spread: how differently single runs bear the dose, in doublings of it;
    LAPSE   share of runs that go otherwise whatever the dose;
    Phi     cumulative normal distribution.

Before any run, all b of a grid that reaches two doublings beyond the doses are equally probable,
and all s of `SPREADS`. Each run changes their probabilities by Bayes' rule. The next dose is the
one after which the border is expected to be known best: that of least expected entropy.

Source: Kontsevich and Tyler, Vision Research 39 (1999), the Psi method; the spread is averaged out
before the entropy is taken, as in Prins, Journal of Vision 13 (2013).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, xlogy

LAPSE = 0.02
SPREADS = np.geomspace(0.125, 2.0, 9)
GRID_STEP = 0.125
"""Doublings between borders of the grid."""

BEYOND = 2.0
"""Doublings from the smallest and the largest dose to the ends of the grid."""

ENOUGH = 2.0
"""A border is known if the ends of its interval are less than this factor apart."""

Outcomes = Sequence[tuple[float, bool]]
"""The dose of each run, and whether it showed the event."""


class Effect(StrEnum):
    """Effect of a remedy on the border."""

    WORKS = "works"
    """Its border's interval lies above that without it."""

    HARMS = "harms"
    """Its border's interval lies below that without it."""

    UNDECIDED = "undecided"
    """The intervals overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """A border and the ends of its interval of 95%.

    Below the smallest dose that can be run they are 0, and infinite above the largest: an interval
    that reaches such a value is open on that side.
    """

    dose: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether more runs would add little: its interval is narrow, or beyond all doses."""
        return self.low == np.inf or self.high == 0 or self.high < ENOUGH * self.low


class Posterior:
    """What runs at some of `doses` say of the border.

    Args:
        doses: Doses that can be run, above 0 and rising.
    """

    def __init__(self, doses: Sequence[float], outcomes: Outcomes) -> None:
        self._doses = np.array(doses, dtype=np.float64)
        first, last = np.log2(self._doses[[0, -1]])
        self._steps = np.arange(first - BEYOND, last + BEYOND + GRID_STEP / 2, GRID_STEP)
        log_likelihood = np.zeros((len(self._steps), len(SPREADS)))
        for dose, shown in outcomes:
            chance = self._chance(np.array([dose]))[0]
            log_likelihood += np.log(chance if shown else 1 - chance)
        weights = np.exp(log_likelihood - log_likelihood.max())
        self._joint: Float[np.ndarray, "B S"] = weights / weights.sum()

    @property
    def border(self) -> Border:
        """The median border and its interval."""
        cumulative = self._joint.sum(axis=1).cumsum()
        low, middle, high = self._borders()[np.searchsorted(cumulative, (0.025, 0.5, 0.975))]
        return Border(dose=float(middle), low=float(low), high=float(high))

    @property
    def deviation(self) -> float:
        """The standard deviation of the border in doublings of the dose."""
        weights = self._joint.sum(axis=1)
        return float(np.sqrt(weights @ (self._steps - weights @ self._steps) ** 2))

    def next_dose(self) -> float:
        """The dose whose run is expected to leave the least entropy of the border."""
        chance = self._chance(self._doses)
        shown = self._joint * chance
        hidden = self._joint * (1 - chance)
        expected = np.zeros(len(self._doses))
        for part in (shown, hidden):
            total = part.sum(axis=(1, 2))
            expected += total * _entropy(part.sum(axis=2) / total[:, None])
        return float(self._doses[expected.argmin()])

    def _borders(self) -> Float[np.ndarray, " B"]:
        """The grid; 0 and infinite beyond the doses."""
        grid = np.exp2(self._steps)
        low, high = self._doses[[0, -1]]
        return np.where(grid < low, 0.0, np.where(grid > high, np.inf, grid))

    def _chance(self, doses: Float[np.ndarray, " D"]) -> Float[np.ndarray, "D B S"]:
        """The probability of the event at each dose, for each border and spread."""
        distance = np.log2(doses)[:, None, None] - self._steps[:, None]
        return LAPSE + (1 - 2 * LAPSE) * ndtr(distance / SPREADS)


def effect(remedy: Border, none: Border) -> Effect:
    """The effect of a remedy, from the intervals of the borders with and without it."""
    if remedy.low > none.high:
        return Effect.WORKS
    return Effect.HARMS if remedy.high < none.low else Effect.UNDECIDED


def factor(remedy: Border, none: Border) -> Border | None:
    """How many times higher the border is with a remedy than without.

    From the ends of both intervals, so it is wider than an interval of 95%, and lies above 1 where
    the remedy works. None if the border without it is not among the doses.
    """
    if not 0 < none.low <= none.high < np.inf:
        return None
    return Border(
        dose=remedy.dose / none.dose, low=remedy.low / none.high, high=remedy.high / none.low
    )


def _entropy(probabilities: Float[np.ndarray, "*D B"]) -> Float[np.ndarray, "*D"]:
    """Entropy of each row in nats."""
    return -xlogy(probabilities, probabilities).sum(axis=-1)
