"""Warnings about a run, in addition to its diagnosis.

The report and `steadyrl diagnose` show the same remarks. They change no status.
"""

from collections.abc import Callable, Iterable

import numpy as np

from steadyrl.analysis.departures import reward_noise
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.score_changes import score_change
from steadyrl.analysis.series import COLD_START, Series, Stage, ends
from steadyrl.analysis.signals import (
    MAX_ENVIRONMENT_FAILURES,
    MAX_GROWTH,
    MAX_NO_SIGNAL,
    MAX_REWARD_LOSS,
    MAX_TRUNCATED,
    MIN_STEPS,
    NOISE_OF_ENDS,
    WINDOW,
)
from steadyrl.base.wording import count, short_number

Check = Callable[[Stage, Series], str | None]


def remarks_of(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Values that are not finite, and what the checks found."""
    stages = tuple(stages)
    found = [_not_finite(stage, series) for stage in stages for series in stage.metrics.values()]
    for stage in stages:
        for metric, check in CHECKS.items() if stage.name != COLD_START else ():
            series = stage.finite(metric)
            remark = None if series is None else check(stage, series)
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


def _score(stage: Stage, score: Series) -> str | None:
    first, last = score.values[0], score.values[-1]
    best = int(score.values.argmax())
    if _fell(stage, score, 0):
        return "the last one lies below the one before training"
    if last < (first + score.values[best]) / 2 and _fell(stage, score, best):
        peak = f"{short_number(float(score.values[best]))} at step {score.steps[best]}"
        return f"more than half of the gain is lost since its best, {peak}"
    return None


def _fell(stage: Stage, score: Series, since: int) -> bool:
    """Whether the last score lies below number `since` by more than noise."""
    change = score_change(stage, int(score.steps[since]), int(score.steps[-1]))
    return change is not None and change.high < 0


def _reward(_: Stage, reward: Series) -> str | None:
    steps = len(reward.values)
    first, last = ends(reward.values)
    error = reward_noise(reward.values) * (2 / max(1, steps // 10)) ** 0.5 if steps > 1 else 0.0
    is_noise = steps < MIN_STEPS or first - last < NOISE_OF_ENDS * error
    if not is_noise and first - last > MAX_REWARD_LOSS * abs(first):
        return f"it ends lower than it began ({short_number(first)} to {short_number(last)})"
    return None


def _entropy(_: Stage, entropy: Series) -> str | None:
    first, last = ends(entropy.values)
    if len(entropy.values) >= MIN_STEPS and last < first / MAX_GROWTH:
        return f"it fell to less than a tenth ({short_number(first)} to {short_number(last)})"
    return None


def _no_signal(_: Stage, series: Series) -> str | None:
    whole, first = float(np.median(series.values)), float(np.median(series.values[:WINDOW]))
    if min(whole, first) <= MAX_NO_SIGNAL:  # at first there was something to learn from
        return None
    return f"{short_number(whole)} in the median of the steps, above {MAX_NO_SIGNAL} from the start"


def _ends_above(limit: float) -> Check:
    def check(_: Stage, series: Series) -> str | None:
        last = ends(series.values)[1]
        return f"it ends at {short_number(last)}, above {limit}" if last > limit else None

    return check


CHECKS: dict[str, Check] = {
    "score": _score,
    "score_failed_fraction": _ends_above(MAX_ENVIRONMENT_FAILURES),
    "reward": _reward,
    "entropy": _entropy,
    "truncated_fraction": _ends_above(MAX_TRUNCATED),
    "no_signal_fraction": _no_signal,
}
"""By metric, what gives cause to look closer. A check sees a stage and the metric's finite values
in it. Nothing is said to fall where noise can explain it."""
