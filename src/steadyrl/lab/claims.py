"""Claims and their statistical tests, stated before the runs.

A claim is one or more comparisons of a measure between conditions. Runs of equal seed share their
cold start and their tasks, so a comparison looks at the differences within each seed: Student's
95% interval of their mean decides. Over many claims the share of wrong verdicts is bounded by
`discoveries`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control
from scipy.stats import t as student


class Verdict(StrEnum):
    """The result of testing a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"

    OUT_OF_REACH = "out of reach here"
    """Its premise is not proven: what it says how to prevent does not happen here."""


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

    def p_above(self, level: float) -> float:
        """The one-sided p-value of a mean above `level`, by Student's t; 1 below two values."""
        if self.count < 2:
            return 1.0
        half = (self.high - self.low) / 2
        if half == 0:
            return float(self.mean <= level)
        error = half / student.ppf(0.975, self.count - 1)
        return float(student.sf((self.mean - level) / error, self.count - 1))

    def p_below(self, level: float) -> float:
        """The one-sided p-value of a mean below `level`."""
        mirrored = Interval(mean=-self.mean, low=-self.high, high=-self.low, count=self.count)
        return mirrored.p_above(-level)


@dataclass(frozen=True, slots=True, kw_only=True)
class PValues:
    """One-sided p-values of both verdicts. An interval of 95% decides where one is below 0.025."""

    holds: float
    fails: float


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

    def p_values(self, difference: Interval) -> PValues:
        """The p-values of the verdicts for an interval of the difference."""
        match self.relation:
            case Relation.GREATER:
                holds, fails = difference.p_above(0.0), difference.p_below(self.margin)
            case Relation.LESS:
                holds, fails = difference.p_below(0.0), difference.p_above(-self.margin)
            case Relation.NOT_GREATER:
                holds, fails = difference.p_below(self.margin), difference.p_above(0.0)
            case Relation.SIMILAR:
                ends = (difference.p_above(-self.margin), difference.p_below(self.margin))
                outside = (difference.p_above(self.margin), difference.p_below(-self.margin))
                holds, fails = max(ends), min(outside)
        return PValues(holds=holds, fails=fails)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement about a study, and the comparisons that test it."""

    text: str

    source: str
    """Its source, such as a figure of a paper."""

    comparisons: tuple[Comparison, ...]

    premise: tuple[Comparison, ...] = ()
    """What must be proven for the claim to be testable, such as a collapse that it explains."""

    def verdict(self, parts: tuple[Verdict, ...], premise: tuple[Verdict, ...] = ()) -> Verdict:
        """Holds if all parts hold, fails if any part fails; out of reach without its premise."""
        if any(part is not Verdict.HOLDS for part in premise):
            return Verdict.OUT_OF_REACH
        if Verdict.FAILS in parts:
            return Verdict.FAILS
        return Verdict.UNDECIDED if Verdict.UNDECIDED in parts else Verdict.HOLDS


def p_values(parts: Sequence[PValues]) -> PValues:
    """The p-values of a claim that holds with all of its parts and fails with any of them.

    The largest for holding (an intersection-union test), the smallest times their number for
    failing (Bonferroni).
    """
    return PValues(
        holds=max(part.holds for part in parts),
        fails=min(1.0, len(parts) * min(part.fails for part in parts)),
    )


def discoveries(claims: Sequence[PValues], rate: float = 0.05) -> list[Verdict]:
    """Verdicts of which at most a share of `rate` is expected to be wrong.

    The procedure of Benjamini and Hochberg, with twice the smaller of a claim's p-values: it is
    decided in the direction of the smaller one. It assumes that claims are independent or
    positively dependent, as those are that share runs.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995).
    """
    if not claims:
        return []
    two_sided = np.array([min(1.0, 2 * min(each.holds, each.fails)) for each in claims])
    decided = false_discovery_control(two_sided, method="bh") <= rate
    return [
        Verdict.UNDECIDED if not sure else Verdict.HOLDS if p.holds < p.fails else Verdict.FAILS
        for p, sure in zip(claims, decided, strict=True)
    ]


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
    "log10_staleness": 0.1,
    "log10_gradient_norm": 0.1,
    "mean_score": 0.02,
    "mean_reward": 0.02,
    "score_in_equal_time": 0.02,
    "retry_reward": 0.02,
    "retry_lift": 0.02,
    "seconds": 5.0,
}
"""The smallest difference of each measure that matters: 2 points of accuracy, a twentieth of the
peak, 0.02 nats, a quarter more or less mismatch, staleness or gradient, 5 seconds."""
