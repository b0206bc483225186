"""Faults of a run's set-up. Each breaks something that holds in every sound run.

At the first step no weight has changed, so engine and trainer are one policy up to rounding. What
is wrong there is wrong with the set-up. One fault needs updates to show: an engine without them.
Tasks from which nothing can be learned are in `diagnosis_tasks`.
"""

from collections.abc import Callable
from itertools import chain

import numpy as np

from steadyrl.analysis.bounds import (
    EXTREME_TOKENS,
    HALF,
    SMALLEST_TEMPERATURE,
    SURPRISAL_NOISE,
)
from steadyrl.analysis.causes import Cause, CauseName, Fault
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_data import Stage, finite
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.signals import (
    GROWN,
    WINDOW,
    Departure,
    opening,
    recent,
)
from steadyrl.analysis.task_faults import failing_environment, lost_updates, no_signal
from steadyrl.base.wording import short_number

SURPRISAL_SHARE = 0.02
"""Share of the entropy below which a gap does no harm, however many tokens prove it."""

RAREST_SURPRISAL = 10.0
"""Nats of the rarest tokens that a filter cuts off on average. Where probability is out of the
engine's reach and is known to be, it can account for a gap of so many times its size."""

STALE_SHARE = 0.05
"""How much more of the mismatch a temperature explains than at first, and how far its ratio has
gone. Rounding has no such slope: medians reach 0.04 in sound runs and in collapsed ones. Sharpening
without the engine grows to several tenths."""


def fault_of(stage: Stage, settings: RunSettings) -> Fault | None:
    """The first fault that holds, in the order in which one would hide the next."""
    equal = _at_equal_weights(stage, settings) if settings.overlap else stage
    found = chain(
        (check(equal, settings) for check in OF_POLICIES), (check(stage) for check in OF_TASKS)
    )
    return next((fault for fault in found if fault is not None), None)


def _at_equal_weights(stage: Stage, settings: RunSettings) -> Stage:
    """The steps whose rollout had the weights that its first update began with."""
    staleness = finite(stage, "staleness")
    if staleness is None:
        return stage
    return stage.at(staleness.steps[staleness.values <= (settings.mini_batches - 1) / 2])


def _temperature(stage: Stage, _: RunSettings) -> Fault | None:
    ratio, share = opening(stage, "temperature_ratio"), opening(stage, "temperature_share")
    if ratio is None or share is None or share < HALF:
        return None
    if abs(ratio - 1) < SMALLEST_TEMPERATURE or _truncated(stage):
        return None
    return Fault(
        cause=Cause(
            name=CauseName.TEMPERATURE,
            reason=f"Before any update could matter, one number explains {share:.0%} of the "
            f"mismatch: the engine's probabilities are the trainer's at {short_number(ratio)} "
            "times the temperature.",
            change="Sample and score at one sampling.temperature, and let the engine return "
            "log-probabilities after the temperature is applied.",
        ),
        evidence=_at_opening(stage, "temperature_ratio", ratio, 1.0, "1 is normal"),
    )


def _routes(stage: Stage, _: RunSettings) -> Fault | None:
    disagreement = opening(stage, "routing_disagreement")
    extreme = opening(stage, "extreme_token_fraction")
    if disagreement is None or extreme is None:
        return None
    replayed = disagreement == 0 and extreme > EXTREME_TOKENS and not _truncated(stage)
    if not (replayed or disagreement > HALF):
        return None
    if replayed:
        reason = (
            f"With the engine's own routes in the trainer, {extreme:.0%} of the tokens differ by "
            "more than a factor of 2 before any update could matter. Rounding does not do that: "
            "the routes are not those of these tokens."
        )
        evidence = _many_extreme_tokens(stage, extreme)
    else:
        reason = (
            f"The engine reports other experts than the trainer uses at {disagreement:.0%} of the "
            "positions, although their probabilities agree. The routes it reports, or those that "
            "are replayed, are not those of these tokens."
        )
        evidence = _at_opening(
            stage, "routing_disagreement", disagreement, HALF, "about 0.1 is common"
        )
    return Fault(
        cause=Cause(
            name=CauseName.ROUTES,
            reason=reason,
            change="Check how the engine's routes are aligned: row t belongs to the pass that "
            "fed token t. Until then set routing_replay to 'none'.",
        ),
        evidence=evidence,
    )


def _other_policy(stage: Stage, _: RunSettings) -> Fault | None:
    extreme = opening(stage, "extreme_token_fraction")
    if extreme is None or extreme <= EXTREME_TOKENS or _truncated(stage):
        return None
    return Fault(
        cause=Cause(
            name=CauseName.OTHER_POLICY,
            reason=f"Before any update could matter, {extreme:.0%} of the tokens differ by more "
            "than a factor of 2 between engine and trainer.",
            change="Check that the engine has the trainer's weights, tokens and positions, and "
            "that its numerics suit the model. `steadyrl mismatch` shows every source.",
        ),
        evidence=_many_extreme_tokens(stage, extreme),
    )


def _sampling(stage: Stage, settings: RunSettings) -> Fault | None:
    gap, units = opening(stage, "surprisal_gap"), opening(stage, "surprisal_gap_z")
    entropy = opening(stage, "entropy")
    if gap is None or units is None or entropy is None or not settings.every_token_measured:
        return None
    explained = gap < 0 and -gap < RAREST_SURPRISAL * _out_of_reach(stage)
    if abs(units) < SURPRISAL_NOISE or abs(gap) < SURPRISAL_SHARE * entropy or explained:
        return None
    word = "less" if gap < 0 else "more"
    return Fault(
        cause=Cause(
            name=CauseName.SAMPLING,
            reason=f"The tokens drawn are {short_number(abs(gap))} nats {word} surprising than "
            f"their reported probabilities make them, {short_number(abs(units))} standard errors. "
            "So they come from another distribution: one that a filter such as top-p, or a "
            "temperature, has changed.",
            change="Let the engine return log-probabilities after top-p, top-k and temperature, "
            "or sample with sampling.top_p 1 and no other filter.",
        ),
        evidence=_at_opening(
            stage,
            "surprisal_gap_z",
            units,
            float(np.copysign(SURPRISAL_NOISE, units)),
            f"{-SURPRISAL_NOISE:g} to {SURPRISAL_NOISE:g} is normal",
        ),
    )


def _stale_engine(stage: Stage, _: RunSettings) -> Fault | None:
    names = ("mismatch_kl_k3", "temperature_share", "temperature_ratio")
    starts = [opening(stage, name) for name in names]
    courses = [recent(stage, name) for name in names]
    if any(item is None for item in (*starts, *courses)):
        return None
    mismatch, share, ratio = (series.values for series in courses if series is not None)
    first_mismatch, first_share, first_ratio = (start for start in starts if start is not None)
    stale = (
        (mismatch > GROWN * first_mismatch)
        & (share > first_share + STALE_SHARE)
        & (np.abs(ratio - first_ratio) > STALE_SHARE)
    )
    if not stale.any():
        return None
    first = int(stale.argmax())
    series = courses[0]
    assert series is not None
    step, times = int(series.steps[first]), short_number(float(mismatch[first] / first_mismatch))
    return Fault(
        cause=Cause(
            name=CauseName.STALE_ENGINE,
            reason=f"The mismatch was normal at first and {times} times as large by step {step}, "
            "and what was added has the pattern of learning, not of rounding: the trainer's policy "
            f"has changed as by a temperature of {short_number(float(ratio[first]))}, and the "
            "engine's has not followed.",
            change="Check that load_weights reaches the model that samples, after every step, and "
            "that no cache of the old weights outlives it.",
        ),
        evidence=Departure(
            metric="mismatch_kl_k3",
            step=step,
            value=float(mismatch[first]),
            limit=GROWN * first_mismatch,
            finding=f"Mismatch KL (k3) reached {times} times its first steps at step {step}, along "
            "with the share that a temperature explains.",
        ),
    )


def _out_of_reach(stage: Stage) -> float:
    """The probability that the trainer gives to tokens the engine cannot draw: 1 - E[u] = k1 - k3.

    It is 0 but for noise where the engine samples from all tokens, and what top-p cuts off where
    that is reported.
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
    normal = f"sound runs stay far below {EXTREME_TOKENS}"
    return _at_opening(stage, "extreme_token_fraction", share, EXTREME_TOKENS, normal)


def _at_opening(stage: Stage, metric: str, value: float, limit: float, normal: str) -> Departure:
    series = finite(stage, metric)
    assert series is not None
    last = int(series.steps[:WINDOW][-1])
    steps = f"steps {series.steps[0]} to {last}" if last > series.steps[0] else f"step {last}"
    return Departure(
        metric=metric,
        step=int(series.steps[0]),
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
