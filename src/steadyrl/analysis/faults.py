"""Faults of a run's setup. Each breaks something that holds in every sound run.

At the first step no weight has changed, so engine and trainer are one policy up to rounding. What
is wrong there is wrong with the setup. One fault needs updates to show: an engine without them.
Tasks from which nothing can be learned, and updates that are lost, are in `task_faults`.
"""

from collections.abc import Callable
from itertools import chain

import numpy as np

from steadyrl.analysis.causes import Cause, CauseName, Fault
from steadyrl.analysis.departures import Departure, opening, recent
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage
from steadyrl.analysis.signals import (
    DOMINANT_SHARE,
    MAX_EXTREME_TOKENS,
    MAX_SURPRISAL_Z,
    MIN_SURPRISAL_SHARE,
    MIN_TEMPERATURE_DIFFERENCE,
    NOTABLE_GROWTH,
    RAREST_SURPRISAL,
    STALE_SHARE,
    WINDOW,
)
from steadyrl.analysis.task_faults import failing_environment, lost_updates, no_signal
from steadyrl.base.wording import short_number


def fault_of(stage: Stage, settings: RunSettings) -> Fault | None:
    """The first fault that holds, in the order in which one would hide the next."""
    equal = _at_equal_weights(stage, settings) if settings.overlap else stage
    found = chain(
        (check(equal, settings) for check in OF_POLICIES), (check(stage) for check in OF_TASKS)
    )
    return next((fault for fault in found if fault is not None), None)


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
    cause = Cause(
        name=CauseName.TEMPERATURE,
        reason=f"Before any update could matter, one number explains {share:.0%} of the mismatch: "
        f"the engine's probabilities are the trainer's at {short_number(ratio)} times the "
        "temperature.",
        change="Sample and score at one sampling.temperature, and let the engine return "
        "log-probabilities after the temperature is applied.",
    )
    evidence = _at_opening(stage, "temperature_ratio", ratio, 1.0, "1 is normal")
    return Fault(cause=cause, evidence=evidence)


def _routes(stage: Stage, _: RunSettings) -> Fault | None:
    disagreement = opening(stage, "routing_disagreement")
    extreme = opening(stage, "extreme_token_fraction")
    if disagreement is None or extreme is None:
        return None
    if disagreement == 0 and extreme > MAX_EXTREME_TOKENS and not _truncated(stage):
        evidence = _many_extreme_tokens(stage, extreme)
        reason = (
            f"With the engine's own routes in the trainer, {extreme:.0%} of the tokens differ by "
            "more than a factor of 2 before any update could matter. Rounding does not do that: "
            "the routes are not those of these tokens."
        )
    elif disagreement > DOMINANT_SHARE:
        evidence = _at_opening(
            stage, "routing_disagreement", disagreement, DOMINANT_SHARE, "about 0.1 is common"
        )
        reason = (
            f"The engine reports other experts than the trainer uses at {disagreement:.0%} of the "
            "positions, although their probabilities agree. The routes it reports, or those that "
            "are replayed, are not those of these tokens."
        )
    else:
        return None
    cause = Cause(
        name=CauseName.ROUTES,
        reason=reason,
        change="Check how the engine's routes are aligned: row t belongs to the pass that fed "
        "token t. Until then set routing_replay to 'none'.",
    )
    return Fault(cause=cause, evidence=evidence)


def _other_policy(stage: Stage, _: RunSettings) -> Fault | None:
    extreme = opening(stage, "extreme_token_fraction")
    if extreme is None or extreme <= MAX_EXTREME_TOKENS or _truncated(stage):
        return None
    cause = Cause(
        name=CauseName.OTHER_POLICY,
        reason=f"Before any update could matter, {extreme:.0%} of the tokens differ by more than "
        "a factor of 2 between engine and trainer.",
        change="Check that the engine has the trainer's weights, tokens and positions, and that "
        "its numerics suit the model. `steadyrl mismatch` shows every source.",
    )
    return Fault(cause=cause, evidence=_many_extreme_tokens(stage, extreme))


def _sampling(stage: Stage, settings: RunSettings) -> Fault | None:
    gap, units = opening(stage, "surprisal_gap"), opening(stage, "surprisal_gap_z")
    entropy = opening(stage, "entropy")
    if gap is None or units is None or entropy is None or not settings.every_token_measured:
        return None
    explained = gap < 0 and -gap < RAREST_SURPRISAL * _out_of_reach(stage)
    if abs(units) < MAX_SURPRISAL_Z or abs(gap) < MIN_SURPRISAL_SHARE * entropy or explained:
        return None
    cause = Cause(
        name=CauseName.SAMPLING,
        reason=f"The sampled tokens are {short_number(abs(gap))} nats "
        f"{'less' if gap < 0 else 'more'} surprising than their reported probabilities predict, "
        f"{short_number(abs(units))} standard errors. So they come from another distribution: one "
        "that a filter such as top-p, or a temperature, has changed.",
        change="Let the engine return log-probabilities after top-p, top-k and temperature, or "
        "sample with sampling.top_p 1 and no other filter.",
    )
    limit = float(np.copysign(MAX_SURPRISAL_Z, units))
    normal = f"{-MAX_SURPRISAL_Z:g} to {MAX_SURPRISAL_Z:g} is normal"
    return Fault(cause=cause, evidence=_at_opening(stage, "surprisal_gap_z", units, limit, normal))


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
    times = short_number(value / starts[0])
    cause = Cause(
        name=CauseName.STALE_ENGINE,
        reason=f"The mismatch was normal at first and {times} times as large by step {step}, and "
        "the increase has the pattern of learning, not of rounding: the trainer's policy has "
        f"changed as by a temperature of {short_number(float(ratio[first]))}, and the engine's has "
        "not followed.",
        change="Check that load_weights reaches the model that samples, after every step, and "
        "that no cache of the old weights outlives it.",
    )
    finding = (
        f"Mismatch KL (k3) reached {times} times its first steps at step {step}, along with the "
        "share that a temperature explains."
    )
    evidence = Departure(
        metric="mismatch_kl_k3", step=step, value=value, limit=limit, finding=finding
    )
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
    return Departure(
        metric=metric,
        step=first,
        value=value,
        limit=limit,
        finding=f"{text_for(metric).title} is {short_number(value)} in {steps}; {normal}.",
    )


OF_POLICIES: tuple[Callable[[Stage, RunSettings], Fault | None], ...] = (
    _temperature,
    _routes,
    _other_policy,
    _sampling,
    _stale_engine,
)

OF_TASKS = (failing_environment, no_signal, lost_updates)
