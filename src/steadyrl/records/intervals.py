"""95% confidence intervals of means over tasks.

Answers to the same task are correlated, while the mean rewards of different tasks are independent.
So intervals are computed from one mean reward per task, however many answers it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

Z = 1.96
"""Half-width of a normal 95% interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Bounds of a 95% confidence interval.

    Example:
        score_interval([0.0, 0.5, 1.0, 0.5]) == Interval(low=0.188, high=0.812)  # rounded
    """

    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Normal interval of the mean of independent `values`; None for fewer than two values."""
    if len(values) < 2:
        return None
    margin, mean = Z * stdev(values) / sqrt(len(values)), fmean(values)
    return Interval(low=mean - margin, high=mean + margin)


def score_interval(task_scores: Sequence[float]) -> Interval | None:
    """Interval of the mean of scores between 0 and 1; None for fewer than two tasks.

    Wilson interval with the effective number of answers `p (1 - p) / s^2`, where `p` is the mean
    and `s` the standard error over tasks. It stays between 0 and 1, and has a positive width even
    if no task or every task was solved. Scores outside 0 to 1 get the normal interval.
    """
    if len(task_scores) < 2:
        return None
    if min(task_scores) < 0 or max(task_scores) > 1:
        return mean_interval(task_scores)
    mean, error = fmean(task_scores), stdev(task_scores) / sqrt(len(task_scores))
    spread = mean * (1 - mean)
    # Equal scores strictly between 0 and 1 have no standard error: count each task as one answer.
    answers = spread / error**2 if error > 0 and spread > 0 else float(len(task_scores))
    center = (mean + Z**2 / (2 * answers)) / (1 + Z**2 / answers)
    half = Z / (1 + Z**2 / answers) * sqrt(spread / answers + (Z / (2 * answers)) ** 2)
    return Interval(low=max(0.0, center - half), high=min(1.0, center + half))


def with_interval(score: float, interval: Interval | None) -> str:
    """`score` and, where it is known, its 95% interval."""
    if interval is None:
        return f"{score:.3f}"
    return f"{score:.3f} (95% interval {interval.low:.3f} to {interval.high:.3f})"


def recorded_score(row: Mapping[str, Any]) -> str:
    """The held-out score in a row of metrics, with its interval where that is recorded."""
    known = "score_low" in row and "score_high" in row
    interval = Interval(low=row["score_low"], high=row["score_high"]) if known else None
    return with_interval(row["score"], interval)
