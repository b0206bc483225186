"""Faults of a run's setup. Each breaks something that holds in every sound run.

At the first step no weight has changed, so engine and trainer are one policy up to rounding. What
is wrong there is wrong with the setup. One fault needs updates to show: an engine without them.
"""

from collections.abc import Callable, Sequence

import numpy as np

from steadyrl.analysis.causes import Cause, Fault
from steadyrl.analysis.departures import Departure, observed, opening, recent
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage
from steadyrl.analysis.signals import (
    DOMINANT_SHARE,
    MAX_EXTREME_TOKENS,
    MAX_FORGETTING,
    MAX_NO_SIGNAL,
    MAX_SURPRISAL_Z,
    MIN_SURPRISAL_SHARE,
    MIN_TEMPERATURE_DIFFERENCE,
    NOTABLE_GROWTH,
    PATIENCE,
    RAREST_SURPRISAL,
    SIGNALS,
    STALE_SHARE,
    WINDOW,
)
from steadyrl.base.wording import short_number


def fault_of(stage: Stage, settings: RunSettings, found: Sequence[Departure] = ()) -> Fault | None:
    """The first fault that holds, in the order in which one would hide the next.

    Args:
        found: The departures of `stage`.
    """
    equal = _at_equal_weights(stage, settings) if settings.max_staleness else stage
    checks = (check(equal, settings) for check in OF_POLICIES)
    faults = (*checks, *map(_proven, found), no_signal(stage))
    return next((fault for fault in faults if fault is not None), None)


def _proven(departure: Departure) -> Fault | None:
    """The fault that a departure proves by itself."""
    causes = {signal.metric: signal.cause for signal in SIGNALS}
    entry = causes.get(departure.metric, "")
    return Fault(cause=Cause.of(entry), evidence=departure) if entry and departure.lasting else None


def _at_equal_weights(stage: Stage, settings: RunSettings) -> Stage:
    """The steps whose rollout had the weights that its first update began with."""
    staleness = stage.finite("staleness")
    if staleness is None:
        return stage
    return stage.at(staleness.steps[staleness.values <= (settings.mini_batches - 1) / 2])


def _temperature(stage: Stage, _: RunSettings) -> Fault | None:
    ratio, share = opening(stage, "temperature_ratio"), opening(stage, "temperature_share")
    if ratio is None or share is None or share < DOMINANT_SHARE:
        return None
    if abs(ratio - 1) < MIN_TEMPERATURE_DIFFERENCE or _truncated(stage):
        return None
    return Fault(
        cause=Cause.of("temperature", share=share, ratio=short_number(ratio)),
        evidence=_at_opening(stage, "temperature_ratio", ratio, 1.0, "1 is normal"),
    )


def _routes(stage: Stage, _: RunSettings) -> Fault | None:
    different = opening(stage, "routing_disagreement")
    extreme = opening(stage, "extreme_token_fraction")
    if different is None or extreme is None:
        return None
    if different == 0 and extreme > MAX_EXTREME_TOKENS and not _truncated(stage):
        evidence = _many_extreme_tokens(stage, extreme)
        seen = (
            f"With the engine's own routes in the trainer, {extreme:.0%} of the tokens differ by "
            "more than a factor of 2 before any update could matter. Rounding does not do that."
        )
    elif different > DOMINANT_SHARE:
        metric, normal = "routing_disagreement", "about 0.1 is common"
        evidence = _at_opening(stage, metric, different, DOMINANT_SHARE, normal)
        seen = (
            f"The engine reports other experts than the trainer uses at {different:.0%} of the "
            "positions, although their probabilities agree."
        )
    else:
        return None
    return Fault(cause=Cause.of("routes", seen=seen), evidence=evidence)


def _other_policy(stage: Stage, _: RunSettings) -> Fault | None:
    extreme = opening(stage, "extreme_token_fraction")
    if extreme is None or extreme <= MAX_EXTREME_TOKENS or _truncated(stage):
        return None
    cause = Cause.of("other_policy", share=extreme)
    return Fault(cause=cause, evidence=_many_extreme_tokens(stage, extreme))


def _sampling(stage: Stage, settings: RunSettings) -> Fault | None:
    gap, units = opening(stage, "surprisal_gap"), opening(stage, "surprisal_gap_z")
    entropy = opening(stage, "entropy")
    if gap is None or units is None or entropy is None or not settings.every_token_measured:
        return None
    explained = gap < 0 and -gap < RAREST_SURPRISAL * _out_of_reach(stage)
    if abs(units) < MAX_SURPRISAL_Z or abs(gap) < MIN_SURPRISAL_SHARE * entropy or explained:
        return None
    cause = Cause.of(
        "sampling",
        gap=short_number(abs(gap)),
        direction="less" if gap < 0 else "more",
        units=short_number(abs(units)),
    )
    limit = float(np.copysign(MAX_SURPRISAL_Z, units))
    normal = f"{-MAX_SURPRISAL_Z:g} to {MAX_SURPRISAL_Z:g} is normal"
    evidence = _at_opening(stage, "surprisal_gap_z", units, limit, normal)
    return Fault(cause=cause, evidence=evidence)


def _stale_engine(stage: Stage, _: RunSettings) -> Fault | None:
    names = ("mismatch_kl_k3", "temperature_share", "temperature_ratio")
    starts = [start for name in names if (start := opening(stage, name)) is not None]
    courses = [course for name in names if (course := recent(stage, name)) is not None]
    if len(starts) < len(names) or len(courses) < len(names):
        return None
    mismatch, share, ratio = (course.values for course in courses)
    limit = NOTABLE_GROWTH * starts[0]
    learned = (share > starts[1] + STALE_SHARE) & (np.abs(ratio - starts[2]) > STALE_SHARE)
    stale = (mismatch > limit) & learned
    if not stale.any():
        return None
    first = int(stale.argmax())
    value, step = float(mismatch[first]), int(courses[0].steps[first])
    temperature, times = short_number(float(ratio[first])), short_number(value / starts[0])
    finding = (
        f"Mismatch KL (k3) reached {times} times its first steps at step {step}, along with the "
        "share that a temperature explains."
    )
    cause = Cause.of("stale_engine", times=times, step=step, ratio=temperature)
    evidence = Departure(metric=names[0], step=step, value=value, limit=limit, finding=finding)
    return Fault(cause=cause, evidence=evidence)


def _out_of_reach(stage: Stage) -> float:
    """Trainer's probability of the tokens that the engine cannot sample: 1 - E[u] = k1 - k3.

    It is 0 but for noise if the engine samples from all tokens, and what top-p cuts off if that is
    reported.
    """
    k1, k3 = opening(stage, "mismatch_kl_k1"), opening(stage, "mismatch_kl_k3")
    return 0.0 if k1 is None or k3 is None else max(0.0, k1 - k3)


def _truncated(stage: Stage) -> bool:
    """Whether the mismatch is, for the most part, a tail that the engine leaves out and says so.

    k3 is then the smaller: where the rest is divided by its mass p, k3 is p - 1 - log p, about
    (1 - p)^2 / 2, and 1 - p is out of reach. For policies that reach every token 1 - E[u] is noise.
    """
    mismatch = opening(stage, "mismatch_kl_k3")
    return mismatch is not None and _out_of_reach(stage) > mismatch


def _many_extreme_tokens(stage: Stage, share: float) -> Departure:
    normal = f"sound runs stay far below {MAX_EXTREME_TOKENS}"
    return _at_opening(stage, "extreme_token_fraction", share, MAX_EXTREME_TOKENS, normal)


def _at_opening(stage: Stage, metric: str, value: float, limit: float, normal: str) -> Departure:
    series = stage.finite(metric)
    assert series is not None
    first, last = int(series.steps[0]), int(series.steps[:WINDOW][-1])
    steps = f"steps {first} to {last}" if last > first else f"step {last}"
    return observed(metric, first, value, limit, f" in {steps}; {normal}")


def starved(stage: Stage) -> bool:
    """Whether no step so far had enough groups with different rewards."""
    series = stage.finite("no_signal_fraction")
    return series is not None and bool(series.values.min() >= MAX_NO_SIGNAL)


def no_signal(stage: Stage) -> Fault | None:
    """No step so far had enough groups with different rewards, for long enough."""
    metric, limit = "no_signal_fraction", MAX_NO_SIGNAL
    series = stage.finite(metric)
    if series is None or len(series.steps) < PATIENCE or not starved(stage):
        return None
    share, first = float(series.values.mean()), int(series.steps[0])
    return Fault(
        cause=no_signal_cause(stage, share),
        evidence=observed(metric, first, share, limit, f", above {limit:g} from the start"),
    )


def no_signal_cause(stage: Stage, share: float) -> Cause:
    """Why nothing is learned if in this share of the groups all answers earned the same."""
    truncated, cut = stage.finite("truncated_fraction"), ""
    change = (
        "Look at the completions: are all answers wrong, or all right? Begin with easier or harder "
        "tasks, a cold start, or rewards for parts of a task."
    )
    if truncated is not None and truncated.values.min() > MAX_NO_SIGNAL:
        cut = f" {truncated.values.mean():.0%} of the episodes were cut short."
        change = "Raise sampling.max_new_tokens, or the turns of an episode."
    return Cause.of("no_signal", share=share, cut=cut, change=change)


def reward_of_all(stage: Stage) -> float | None:
    """The reward of every answer so far, if all of them earned the same; None otherwise."""
    reward, without = stage.finite("reward"), stage.finite("no_signal_fraction")
    if reward is None or np.ptp(reward.values) > 0:
        return None
    # Other trainers may not count groups without signal. A mean of exactly 0 is then that of zeros.
    same = reward.values[0] == 0 if without is None else without.values.min() == 1
    return float(reward.values[0]) if same else None


def forgetting(stage: Stage) -> Fault | None:
    """General texts have become less likely: the policy loses what its tasks do not ask for."""
    metric, limit = "drift_loglikelihood", -MAX_FORGETTING
    drift = stage.finite(metric)
    if drift is None or drift.values[-1] >= limit:
        return None
    kept = np.flatnonzero(drift.values >= limit)
    since = int(drift.steps[int(kept.max(initial=-1)) + 1])
    value = float(drift.values[-1])
    words = {"lost": short_number(-value), "times": short_number(float(np.exp(-value)))}
    normal = f", below {short_number(limit)} nats per token since step {since}"
    return Fault(
        cause=Cause.of("forgetting", **words),
        evidence=observed(metric, since, value, limit, normal),
    )


OF_POLICIES: tuple[Callable[[Stage, RunSettings], Fault | None], ...] = (
    _temperature,
    _routes,
    _other_policy,
    _sampling,
    _stale_engine,
)
