"""Signals of a collapse: what is normal for each, and when it was left.

A signal is read as the median of the last tenth of its steps so far, and of `WINDOW` at least. It
is held against the run's own opening, or against a bound that means the same in every run. A single
step never makes a departure, and the longer a run was calm, the longer it takes to make one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from steadyrl.analysis.bounds import (
    EXTREME_TOKENS,
    HALF_THE_TOKENS,
    KL_OF_AN_UPDATE,
    LOST_SHARE,
    TENFOLD,
)
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_data import Series, Stage, finite
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.base.wording import short_number

WINDOW = 3
"""Steps in the shortest median: the fewest with which one outlier changes nothing."""


GROWN = 3.0
"""Growth that sound runs reach now and then. Alone it is no departure; with other evidence it
counts."""


NOISE_UNITS = 4.0
"""Standard errors that a loss of reward must exceed. The best of many windows is high by chance, so
2 or 3 would not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A signal has left its normal range."""

    metric: str

    step: int
    """When it left for good; of one that has come back, when it first left."""

    value: float
    """The signal at that step."""

    limit: float
    """The end of the normal range that it passed."""

    finding: str
    """The departure as a sentence."""

    lasting: bool = True
    """Whether the signal is still outside at the run's last step."""


def departures(stage: Stage, settings: RunSettings) -> list[Departure]:
    """Every signal of `stage` that has left its normal range, the first one first."""
    found: Iterable[Departure | None] = (signal(stage, settings) for signal in SIGNALS)
    return sorted((d for d in found if d is not None), key=lambda departure: departure.step)


def opening(stage: Stage, metric: str) -> float | None:
    """The median of a metric over the first steps that recorded it; None without any."""
    series = finite(stage, metric)
    return None if series is None else float(np.median(series.values[:WINDOW]))


def recent(stage: Stage, metric: str) -> Series | None:
    """At each step, the median of a metric over the last tenth of the steps that recorded it.

    It begins where there are `WINDOW` of them. None for a metric with fewer.
    """
    series = finite(stage, metric)
    if series is None or len(series.steps) < WINDOW:
        return None
    ends = range(WINDOW, len(series.steps) + 1)
    medians = [np.median(series.values[end - window(end) : end]) for end in ends]
    return Series(name=metric, steps=series.steps[WINDOW - 1 :], values=np.array(medians))


def window(steps: int) -> int:
    """A tenth of `steps`, and `WINDOW` at least."""
    return max(WINDOW, steps // 10)


def means(values: Float[np.ndarray, " S"], size: int) -> Float[np.ndarray, " W"]:
    """The mean of every `size` values in a row."""
    return np.convolve(values, np.full(size, 1 / size), mode="valid")


def _outside(series: Series, limit: float, *, above: bool, range_name: str) -> Departure | None:
    """The departure of `series`, already in medians, beyond `limit`."""
    outside = series.values > limit if above else series.values < limit
    if not outside.any():
        return None
    lasting = bool(outside[-1])
    first = int(np.flatnonzero(~outside).max(initial=-1)) + 1 if lasting else int(outside.argmax())
    value, step = float(series.values[first]), int(series.steps[first])
    relation = "above" if above else "below"
    return Departure(
        metric=series.name,
        step=step,
        value=value,
        limit=limit,
        finding=(
            f"{text_for(series.name).title} reached {short_number(value)} at step {step}, "
            f"{relation} {short_number(limit)}: {range_name}."
        ),
        lasting=lasting,
    )


def _tenfold(metric: str) -> Callable[[Stage, RunSettings], Departure | None]:
    def signal(stage: Stage, _: RunSettings) -> Departure | None:
        series, start = recent(stage, metric), opening(stage, metric)
        if series is None or start is None or start == 0:
            return None
        return _outside(series, TENFOLD * start, above=True, range_name="ten times its first steps")

    return signal


def _extreme_tokens(stage: Stage, _: RunSettings) -> Departure | None:
    metric = "extreme_token_fraction"
    series, start = recent(stage, metric), opening(stage, metric)
    if series is None or start is None:
        return None
    if 2 * start > EXTREME_TOKENS:
        return _outside(series, 2 * start, above=True, range_name="twice its first steps")
    return _outside(series, EXTREME_TOKENS, above=True, range_name="one token in ten")


def _low_sample_size(stage: Stage, _: RunSettings) -> Departure | None:
    series = recent(stage, "ess")
    if series is None:
        return None
    return _outside(series, HALF_THE_TOKENS, above=False, range_name="half of the tokens")


def _large_updates(stage: Stage, settings: RunSettings) -> Departure | None:
    """Staleness that is more than its number of updates accounts for.

    After j updates in one direction the KL is j^2 times that of one, so its mean over mini-batches
    0 to N - 1 is that of one update times (N - 1)(2N - 1) / 6.
    """
    updates = settings.mini_batches
    series = recent(stage, "staleness_kl_k3")
    if series is None or updates == 1:
        return None
    limit = KL_OF_AN_UPDATE * (updates - 1) * (2 * updates - 1) / 6
    name = f"{KL_OF_AN_UPDATE} nats for each update, with {updates} updates a rollout"
    return _outside(series, limit, above=True, range_name=name)


def _lost_reward(stage: Stage, _: RunSettings) -> Departure | None:
    """The collapse itself. A best reward of 0 or less has no share that could be lost."""
    reward = finite(stage, "reward")
    if reward is None or len(reward.steps) < 2 * WINDOW:
        return None
    size, first = window(len(reward.steps)), float(reward.values[0])
    last = float(reward.values[-size:].mean())
    noise = reward_noise(reward.values)
    # A run that falls at its very first update has one step at its best.
    levels = ((float(means(reward.values, size).max()), size), (first, 1))
    lost = [
        level
        for level, steps in levels
        if level > 0 and last < (1 - LOST_SHARE) * level
        if level - last >= NOISE_UNITS * noise * (1 / steps + 1 / size) ** 0.5
    ]
    if not lost:
        return None
    best = max(lost)
    limit = (1 - LOST_SHARE) * best
    courses = means(reward.values, WINDOW)
    kept = np.flatnonzero(courses >= limit)
    place = min(int(kept.max(initial=-1)) + 1, len(courses) - 1)
    value, step = float(courses[place]), int(reward.steps[place + WINDOW - 1])
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


def _sudden_entropy(stage: Stage, _: RunSettings) -> Departure | None:
    """Entropy halved or doubled while the reward fell: sharpening that is not learning."""
    entropy, start = recent(stage, "entropy"), opening(stage, "entropy")
    reward = finite(stage, "reward")
    if entropy is None or not start or reward is None or len(reward.steps) <= WINDOW:
        return None
    courses = means(reward.values, WINDOW)
    error = reward_noise(reward.values) * (2 / WINDOW) ** 0.5
    lower = reward.steps[WINDOW - 1 :][courses[0] - courses > NOISE_UNITS / 2 * error]
    values = np.where(np.isin(entropy.steps, lower), entropy.values, start)
    entropy = Series(name="entropy", steps=entropy.steps, values=values)
    name = "its first steps, as the reward fell"
    return _outside(entropy, start / 2, above=False, range_name=f"half of {name}") or _outside(
        entropy, start * 2, above=True, range_name=f"twice {name}"
    )


def reward_noise(rewards: Float[np.ndarray, " S"]) -> float:
    """The standard deviation of a step's reward around its course, from steps in a row."""
    return float(np.sqrt(np.mean(np.diff(rewards) ** 2) / 2))


SIGNALS: tuple[Callable[[Stage, RunSettings], Departure | None], ...] = (
    _large_updates,
    _tenfold("mismatch_kl_k3"),
    _extreme_tokens,
    _low_sample_size,
    _tenfold("gradient_norm"),
    _sudden_entropy,
    _lost_reward,
)
