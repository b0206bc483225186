"""Warnings about a run, in addition to its diagnosis.

The report and `steadyrl diagnose` show the same remarks. They change no status.
"""

from collections.abc import Callable, Iterable

from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.series import COLD_START, Series, Stage, ends
from steadyrl.analysis.signals import (
    MAX_ENVIRONMENT_FAILURES,
    MAX_GROWTH,
    MAX_REWARD_LOSS,
    MAX_TRUNCATED,
)
from steadyrl.base.wording import count, short_number


def remarks_of(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Values that are not finite, and what the checks found."""
    stages = tuple(stages)
    found = [_not_finite(stage, series) for stage in stages for series in stage.metrics.values()]
    for stage in stages:
        for metric, check in CHECKS.items() if stage.name != COLD_START else ():
            series = stage.finite(metric)
            remark = None if series is None else check(series)
            found.append(None if remark is None else f"{text_for(metric).title}: {remark}.")
    return tuple([remark for remark in found if remark is not None])


def _not_finite(stage: Stage, series: Series) -> str | None:
    steps = len(series.steps)
    missing = series.steps[~series.finite.reshape(steps, -1).all(axis=1)]
    if not len(missing):
        return None
    return (
        f"{text_for(series.name).title}: not finite at {len(missing)} of {count(steps, 'step')}, "
        f"the first being step {missing[0]}."
    )


def _score(score: Series) -> str | None:
    first, last = score.values[0], score.values[-1]
    best = int(score.values.argmax())
    if last < first:
        return "the last one lies below the one before training"
    if last < (first + score.values[best]) / 2:
        peak = f"{short_number(float(score.values[best]))} at step {score.steps[best]}"
        return f"more than half of the gain is lost since its best, {peak}"
    return None


def _reward(reward: Series) -> str | None:
    first, last = ends(reward.values)
    if first - last > MAX_REWARD_LOSS * abs(first):
        return f"it ends lower than it began ({short_number(first)} to {short_number(last)})"
    return None


def _entropy(entropy: Series) -> str | None:
    first, last = ends(entropy.values)
    if last < first / MAX_GROWTH:
        return f"it fell to less than a tenth ({short_number(first)} to {short_number(last)})"
    return None


def _ends_above(limit: float) -> Callable[[Series], str | None]:
    def check(series: Series) -> str | None:
        last = ends(series.values)[1]
        return f"it ends at {short_number(last)}, above {limit}" if last > limit else None

    return check


CHECKS: dict[str, Callable[[Series], str | None]] = {
    "score": _score,
    "score_failed_fraction": _ends_above(MAX_ENVIRONMENT_FAILURES),
    "reward": _reward,
    "entropy": _entropy,
    "truncated_fraction": _ends_above(MAX_TRUNCATED),
}
"""By metric, what gives cause to look closer. A check sees the finite values of one stage."""
