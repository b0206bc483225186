"""When the signals of a run left their normal ranges.

A signal is the median of the last tenth of the steps so far, and of `WINDOW` at least, so a single
step never makes a departure, and the longer a run was calm, the longer it takes to make one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Series, Stage
from steadyrl.analysis.signals import COLLAPSED_SHARE, NOISE_UNITS, SIGNALS, WINDOW, Limit
from steadyrl.base.wording import short_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A signal outside its normal range."""

    metric: str

    step: int
    """When it left for good; if it has come back, when it first left."""

    value: float
    """The signal at that step."""

    limit: float
    """The end of the normal range that it passed."""

    finding: str
    """The departure as a sentence."""

    lasting: bool = True
    """Whether the signal is still outside at the run's last step."""


def observed(metric: str, step: int, value: float, limit: float, normal: str) -> Departure:
    """A departure that is told as a value and what would be `normal`."""
    finding = f"{text_for(metric).title} is {short_number(value)}{normal}."
    return Departure(metric=metric, step=step, value=value, limit=limit, finding=finding)


def departures(stage: Stage, settings: RunSettings) -> list[Departure]:
    """Every signal of `stage` that has left its normal range, the first one first."""
    found = [*_of_ranges(stage, settings), _sudden_entropy(stage), _lost_reward(stage)]
    return sorted((d for d in found if d is not None), key=lambda departure: departure.step)


def departures_now(stage: Stage, settings: RunSettings) -> list[Departure]:
    """The signals outside a range of their own at the last step of `stage`, for a run in progress.

    It costs a median for each signal, however long the run is.
    """
    return [d for d in _of_ranges(stage, settings, last_only=True) if d is not None]


def opening(stage: Stage, metric: str) -> float | None:
    """The median of a metric over the first steps that recorded it; None if none did."""
    series = stage.finite(metric)
    return None if series is None else float(np.median(series.values[:WINDOW]))


def recent(stage: Stage, metric: str, *, last_only: bool = False) -> Series | None:
    """At each step, the median of a metric over the last tenth of the steps that recorded it.

    It begins where there are `WINDOW` of them. None for a metric with fewer.
    """
    series = stage.finite(metric)
    if series is None or len(series.steps) < WINDOW:
        return None
    ends = range(len(series.steps) if last_only else WINDOW, len(series.steps) + 1)
    medians = [np.median(series.values[end - window(end) : end]) for end in ends]
    return Series(name=metric, steps=series.steps[-len(ends) :], values=np.array(medians))


def window(steps: int) -> int:
    """A tenth of `steps`, and `WINDOW` at least."""
    return max(WINDOW, steps // 10)


def reward_noise(rewards: Float[np.ndarray, " S"]) -> float:
    """The standard deviation of a step's reward around its course, from consecutive steps."""
    return float(np.sqrt(np.mean(np.diff(rewards) ** 2) / 2))


def _of_ranges(
    stage: Stage, settings: RunSettings, *, last_only: bool = False
) -> list[Departure | None]:
    found = []
    for signal in SIGNALS:
        start = opening(stage, signal.metric)
        series = recent(stage, signal.metric, last_only=last_only)
        limit = None if start is None else signal.limit(start, settings)
        if series is not None and limit is not None:
            found.append(_outside(series, limit, above=signal.above))
    return found


def _outside(series: Series, limit: Limit, *, above: bool) -> Departure | None:
    """The departure of `series`, already in medians, beyond `limit`."""
    outside = series.values > limit.value if above else series.values < limit.value
    if not outside.any():
        return None
    lasting = bool(outside[-1])
    first = int(np.flatnonzero(~outside).max(initial=-1)) + 1 if lasting else int(outside.argmax())
    value, step = float(series.values[first]), int(series.steps[first])
    return Departure(
        metric=series.name,
        step=step,
        value=value,
        limit=limit.value,
        finding=(
            f"{text_for(series.name).title} reached {short_number(value)} at step {step}, "
            f"{'above' if above else 'below'} {short_number(limit.value)}: {limit.meaning}."
        ),
        lasting=lasting,
    )


def _lost_reward(stage: Stage) -> Departure | None:
    """The collapse itself. A best reward of 0 or less has no share that could be lost."""
    reward = stage.finite("reward")
    if reward is None or len(reward.steps) < 2 * WINDOW:
        return None
    size, first = window(len(reward.steps)), float(reward.values[0])
    last = float(reward.values[-size:].mean())
    noise = reward_noise(reward.values)
    # A run that falls at its very first update has one step at its best.
    levels = ((float(_means(reward.values, size).max()), size), (first, 1))
    lost = [
        level
        for level, steps in levels
        if level > 0 and last < (1 - COLLAPSED_SHARE) * level
        if level - last >= NOISE_UNITS * noise * (1 / steps + 1 / size) ** 0.5
    ]
    if not lost:
        return None
    best = max(lost)
    limit = (1 - COLLAPSED_SHARE) * best
    means = _means(reward.values, WINDOW)
    kept = np.flatnonzero(means >= limit)
    place = min(int(kept.max(initial=-1)) + 1, len(means) - 1)
    value, step = float(means[place]), int(reward.steps[place + WINDOW - 1])
    return Departure(
        metric="reward",
        step=step,
        value=value,
        limit=limit,
        finding=(
            f"{text_for('reward').title} fell to {short_number(value)} at step {step} and stayed "
            f"below half of its best, {short_number(best)}."
        ),
    )


def _sudden_entropy(stage: Stage) -> Departure | None:
    """Entropy halved or doubled while the reward fell: sharpening that is not learning."""
    entropy, start = recent(stage, "entropy"), opening(stage, "entropy")
    reward = stage.finite("reward")
    if entropy is None or not start or reward is None or len(reward.steps) <= WINDOW:
        return None
    means = _means(reward.values, WINDOW)
    error = reward_noise(reward.values) * (2 / WINDOW) ** 0.5
    lower = reward.steps[WINDOW - 1 :][means[0] - means > NOISE_UNITS / 2 * error]
    values = np.where(np.isin(entropy.steps, lower), entropy.values, start)
    entropy = Series(name="entropy", steps=entropy.steps, values=values)
    name = "its first steps, as the reward fell"
    return _outside(
        entropy, Limit(value=start / 2, meaning=f"half of {name}"), above=False
    ) or _outside(entropy, Limit(value=start * 2, meaning=f"twice {name}"), above=True)


def _means(values: Float[np.ndarray, " S"], size: int) -> Float[np.ndarray, " W"]:
    """The mean of every `size` consecutive values."""
    return np.convolve(values, np.full(size, 1 / size), mode="valid")
