"""Faults of tasks and updates: nothing comes of them, whatever the policy does."""

import numpy as np

from steadyrl.analysis.bounds import FORGOTTEN, MANY_FAILURES, REACHED, WITHOUT_SIGNAL
from steadyrl.analysis.causes import Cause, CauseName, Fault
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_data import Stage, finite
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.signals import Departure, recent
from steadyrl.base.wording import short_number

PATIENCE = 10
"""Steps that a run is given to come upon a signal."""


def failing_environment(stage: Stage) -> Fault | None:
    """The environment itself fails in many episodes."""
    metric = "environment_failed_fraction"
    failed = recent(stage, metric)
    if failed is None or failed.values[-1] <= MANY_FAILURES:
        return None
    share, step = float(failed.values[-1]), int(failed.steps[-1])
    return Fault(
        cause=Cause(
            name=CauseName.ENVIRONMENT,
            reason=f"The environment failed in {share:.0%} of the episodes, which are left out: "
            "the policy learns from the rest alone.",
            change="Read what it said in the completions (truncation_reason) and mend it.",
        ),
        evidence=_evidence(metric, step, share, MANY_FAILURES),
    )


def no_signal(stage: Stage) -> Fault | None:
    """No step so far had groups enough with rewards that differ."""
    metric = "no_signal_fraction"
    series = finite(stage, metric)
    if series is None or len(series.steps) < PATIENCE or series.values.min() < WITHOUT_SIGNAL:
        return None
    cut = finite(stage, "truncated_fraction")
    if cut is not None and cut.values.min() > WITHOUT_SIGNAL:
        why = f" {cut.values.mean():.0%} of the episodes were cut short."
        change = "Raise sampling.max_new_tokens, or the turns of an episode."
    else:
        why = ""
        change = (
            "Look at the completions: are all answers wrong, or all right? Begin with easier or "
            "harder tasks, a cold start, or rewards for parts of a task."
        )
    share = float(series.values.mean())
    return Fault(
        cause=Cause(
            name=CauseName.NO_SIGNAL,
            reason=f"In {share:.0%} of the groups all answers earned the same, so that none is "
            f"better than another and no gradient is left.{why}",
            change=change,
        ),
        evidence=_evidence(metric, int(series.steps[0]), share, WITHOUT_SIGNAL),
    )


def lost_updates(stage: Stage) -> Fault | None:
    """Rounding to the trainer's or the engine's type loses most of what the optimizer does."""
    return _lost(
        stage,
        "update_reached_fraction",
        "weights that sample and are differentiated",
        "Set learner.rounding to 'stochastic', or learner.dtype to 'float32'.",
    ) or _lost(
        stage,
        "engine_update_reached_fraction",
        "weights of the rollout engine, which go on sampling as before",
        "Set engine.rounding to 'stochastic', or engine.numerics to 'float32'.",
    )


def _lost(stage: Stage, metric: str, weights: str, change: str) -> Fault | None:
    reached = recent(stage, metric)
    if reached is None or reached.values[-1] >= REACHED:
        return None
    share, step = float(reached.values[-1]), int(reached.steps[-1])
    return Fault(
        cause=Cause(
            name=CauseName.LOST_UPDATES,
            reason=f"The float32 weights move, but {share:.1%} of their movement reaches the "
            f"{weights}: each step is smaller than the distance of neighboring numbers in their "
            "type, and rounding to nearest undoes it.",
            change=change,
        ),
        evidence=Departure(
            metric=metric,
            step=step,
            value=share,
            limit=REACHED,
            finding=f"{text_for(metric).title} is {short_number(share)}; 1 is normal.",
        ),
    )


def forgetting(stage: Stage, settings: RunSettings) -> Fault | None:
    """General texts have become less likely: the policy loses what its tasks do not ask for."""
    metric = "drift_loglikelihood"
    drift = finite(stage, metric)
    if drift is None or drift.values[-1] >= -FORGOTTEN:
        return None
    kept = np.flatnonzero(drift.values >= -FORGOTTEN)
    since = int(drift.steps[int(kept.max(initial=-1)) + 1])
    lost = -float(drift.values[-1])
    return Fault(
        cause=Cause(
            name=CauseName.FORGETTING,
            reason=f"Answers to general questions, and plain prose, became {short_number(lost)} "
            f"nats per token less likely, a perplexity {short_number(float(np.exp(lost)))} times "
            "as large. No task of the run asks for them, so nothing holds the policy to them.",
            change=f"Set {settings.algorithm}.reference_kl.coefficient, to 0.01 at first, lower "
            "optimizer.learning_rate, or stop after fewer steps.",
        ),
        evidence=Departure(
            metric=metric,
            step=since,
            value=-lost,
            limit=-FORGOTTEN,
            finding=f"{text_for(metric).title} is {short_number(-lost)}, below "
            f"{short_number(-FORGOTTEN)} since step {since}: nats per token.",
        ),
    )


def _evidence(metric: str, step: int, value: float, limit: float) -> Departure:
    return Departure(
        metric=metric,
        step=step,
        value=value,
        limit=limit,
        finding=f"{text_for(metric).title} is {short_number(value)}; {limit:g} is much.",
    )
