"""Claims and their statistical tests, stated before the runs.

A claim is one or more comparisons of a measure between conditions. Runs of equal seed share their
cold start and their tasks, so a comparison looks at the differences within each seed: Student's
95% interval of their mean decides.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student


class Verdict(StrEnum):
    """The result of testing a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95% interval; unbounded below two values."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Float[np.ndarray, " S"]) -> "Interval":
        """Student's interval of the mean of `values`."""
        count = len(values)
        if count == 0:
            return cls(mean=np.nan, low=-np.inf, high=np.inf, count=0)
        mean = float(values.mean())
        if count == 1:
            return cls(mean=mean, low=-np.inf, high=np.inf, count=1)
        half = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
        return cls(mean=mean, low=mean - half, high=mean + half, count=count)


class Relation(StrEnum):
    """The tested relation of two conditions, or of one condition and a level."""

    GREATER = "greater"
    """Above 0. Fails when it is proven to be smaller than the margin."""

    LESS = "less"
    """Below 0. Fails when it is proven to be above minus the margin."""

    NOT_GREATER = "not_greater"
    """Smaller than the margin. Fails when it is proven to be above 0."""

    SIMILAR = "similar"
    """Within the margin of 0 on both sides. Fails when it is proven to be outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One testable part of a claim: `measure` of `first` minus that of `second`.

    Example:
        Comparison(measure="best_score", first="MiniRL", relation=Relation.GREATER,
                   second="MiniRL + length-norm", margin=0.02)
    """

    measure: str
    first: str
    relation: Relation

    second: str | float
    """Another condition, or a level."""

    margin: float
    """The smallest difference that matters, in the measure's unit."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions compared."""
        return (self.first, self.second) if isinstance(self.second, str) else (self.first,)

    def verdict(self, difference: Interval) -> Verdict:
        """The verdict for an interval of the difference."""
        positive, small = difference.low > 0, difference.high < self.margin
        match self.relation:
            case Relation.GREATER:
                holds, fails = positive, small
            case Relation.LESS:
                holds, fails = difference.high < 0, difference.low > -self.margin
            case Relation.NOT_GREATER:
                holds, fails = small, positive
            case Relation.SIMILAR:
                holds = small and difference.low > -self.margin
                fails = difference.low > self.margin or difference.high < -self.margin
        return Verdict.HOLDS if holds else Verdict.FAILS if fails else Verdict.UNDECIDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement about a study, and the comparisons that test it."""

    text: str

    source: str
    """Its source, such as a figure of a paper."""

    comparisons: tuple[Comparison, ...]

    def verdict(self, parts: tuple[Verdict, ...]) -> Verdict:
        """Holds if all parts hold, fails if any part fails."""
        if Verdict.FAILS in parts:
            return Verdict.FAILS
        return Verdict.UNDECIDED if Verdict.UNDECIDED in parts else Verdict.HOLDS


def greater(measure: str, first: str, second: str | float) -> Comparison:
    """`first` has more of `measure` than `second`."""
    return _comparison(measure, first, Relation.GREATER, second)


def less(measure: str, first: str, second: str | float) -> Comparison:
    """`first` has less of `measure` than `second`."""
    return _comparison(measure, first, Relation.LESS, second)


def not_greater(measure: str, first: str, second: str | float) -> Comparison:
    """`first` has no more of `measure` than `second`, up to the margin."""
    return _comparison(measure, first, Relation.NOT_GREATER, second)


def similar(measure: str, first: str, second: str | float) -> Comparison:
    """`first` and `second` have the same `measure`, up to the margin."""
    return _comparison(measure, first, Relation.SIMILAR, second)


def is_stable(condition: str) -> Comparison:
    """`condition` ends with more than nine tenths of its best reward."""
    return greater("kept", condition, 0.9)


def is_unstable(condition: str) -> Comparison:
    """`condition` ends with less than nine tenths of its best reward."""
    return less("kept", condition, 0.9)


def collapses(condition: str) -> Comparison:
    """`condition` ends with less than half of its best reward."""
    return less("kept", condition, 0.5)


def _comparison(measure: str, first: str, relation: Relation, second: str | float) -> Comparison:
    return Comparison(
        measure=measure,
        first=first,
        relation=relation,
        second=second,
        margin=SMALLEST_DIFFERENCE[measure],
    )


SMALLEST_DIFFERENCE = {
    "best_score": 0.02,
    "final_score": 0.02,
    "first_score": 0.02,
    "best_reward": 0.02,
    "final_reward": 0.02,
    "kept": 0.05,
    "final_entropy": 0.02,
    "log10_mismatch": 0.1,
    "log10_gradient_norm": 0.1,
    "mean_score": 0.02,
    "mean_reward": 0.02,
    "score_in_equal_time": 0.02,
    "retry_reward": 0.02,
    "retry_lift": 0.02,
    "seconds": 5.0,
}
"""The smallest difference of each measure that matters: 2 points of accuracy, a twentieth of the
peak, 0.02 nats, a quarter more or less mismatch or gradient, 5 seconds."""
