"""Changes of the held-out score between two evaluations, and whether noise explains them."""

from math import hypot

from steadyrl.analysis.series import Stage
from steadyrl.records.intervals import Interval, mean_interval

MIN_TASKS = 6
"""Tasks from which on a change has an interval: if nothing has changed, all of six tasks gain, or
all of them lose, with a probability of 0.03; all of five with 0.06."""


def score_change(stage: Stage, before: int, after: int) -> Interval | None:
    """95% interval of the change of the held-out score from step `before` to step `after`.

    Over the tasks that both evaluations measured, where the stage has their scores; otherwise from
    the intervals of both scores as if they were of different tasks. None if neither is known, or if
    there are fewer than `MIN_TASKS` tasks: the change may then be noise of any size.

    Example:
        score_change(stage, before=0, after=50) == Interval(low=0.1, high=0.3)  # it rose
    """
    if before in stage.task_scores and after in stage.task_scores:
        first, last = stage.task_scores[before], stage.task_scores[after]
        gains = [last[task] - first[task] for task in first.keys() & last.keys()]
        return mean_interval(sorted(gains)) if len(gains) >= MIN_TASKS else None
    scores = [_score_at(stage, step) for step in (before, after)]
    if None in scores:
        return None
    (start, start_low, start_high), (end, end_low, end_high) = scores  # type: ignore[misc]
    return Interval(
        low=end - start - hypot(end - end_low, start_high - start),
        high=end - start + hypot(end_high - end, start - start_low),
    )


def _score_at(stage: Stage, step: int) -> tuple[float, float, float] | None:
    """The score at `step` with the ends of its interval; None if one of them was not recorded."""
    found = [stage.finite(name) for name in ("score", "score_low", "score_high")]
    values = [s.values[s.steps == step] for s in found if s is not None and step in s.steps]
    if len(values) < 3:
        return None
    score, low, high = (float(value[0]) for value in values)
    return score, low, high
