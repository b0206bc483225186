"""Faults of tasks and updates: nothing is learned whatever the policy does, or much is lost."""

import numpy as np

from steadyrl.analysis.causes import Cause, CauseName, Fault
from steadyrl.analysis.departures import Departure, recent
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage
from steadyrl.analysis.signals import (
    MAX_ENVIRONMENT_FAILURES,
    MAX_FORGETTING,
    MAX_NO_SIGNAL,
    MIN_UPDATE_REACHED,
    PATIENCE,
)
from steadyrl.base.wording import short_number


def failing_environment(stage: Stage) -> Fault | None:
    """The environment itself fails in many episodes."""
    metric = "environment_failed_fraction"
    failed = recent(stage, metric, last_only=True)
    if failed is None or failed.values[-1] <= MAX_ENVIRONMENT_FAILURES:
        return None
    share, step = float(failed.values[-1]), int(failed.steps[-1])
    cause = Cause(
        name=CauseName.ENVIRONMENT,
        reason=f"The environment failed in {share:.0%} of the episodes, which are left out: the "
        "policy learns from the rest alone.",
        change="Read the reasons in the completions (truncation_reason) and fix the environment.",
    )
    return Fault(cause=cause, evidence=_much(metric, step, share, MAX_ENVIRONMENT_FAILURES))


def no_signal(stage: Stage) -> Fault | None:
    """No step so far had enough groups with different rewards."""
    metric = "no_signal_fraction"
    series = stage.finite(metric)
    if series is None or len(series.steps) < PATIENCE or series.values.min() < MAX_NO_SIGNAL:
        return None
    cut = stage.finite("truncated_fraction")
    if cut is not None and cut.values.min() > MAX_NO_SIGNAL:
        why = f" {cut.values.mean():.0%} of the episodes were cut short."
        change = "Raise sampling.max_new_tokens, or the turns of an episode."
    else:
        why = ""
        change = (
            "Look at the completions: are all answers wrong, or all right? Begin with easier or "
            "harder tasks, a cold start, or rewards for parts of a task."
        )
    share = float(series.values.mean())
    cause = Cause(
        name=CauseName.NO_SIGNAL,
        reason=f"In {share:.0%} of the groups all answers earned the same, so that none is better "
        f"than another and no gradient is left.{why}",
        change=change,
    )
    return Fault(cause=cause, evidence=_much(metric, int(series.steps[0]), share, MAX_NO_SIGNAL))


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
    reached = recent(stage, metric, last_only=True)
    if reached is None or reached.values[-1] >= MIN_UPDATE_REACHED:
        return None
    share, step = float(reached.values[-1]), int(reached.steps[-1])
    cause = Cause(
        name=CauseName.LOST_UPDATES,
        reason=f"The float32 weights move, but {share:.1%} of their movement reaches the "
        f"{weights}: each step is smaller than the distance of neighboring numbers in their type, "
        "and rounding to nearest undoes it.",
        change=change,
    )
    finding = f"{text_for(metric).title} is {short_number(share)}; 1 is normal."
    evidence = Departure(
        metric=metric, step=step, value=share, limit=MIN_UPDATE_REACHED, finding=finding
    )
    return Fault(cause=cause, evidence=evidence)


def forgetting(stage: Stage, settings: RunSettings) -> Fault | None:
    """General texts have become less likely: the policy loses what its tasks do not ask for."""
    metric = "drift_loglikelihood"
    drift = stage.finite(metric)
    if drift is None or drift.values[-1] >= -MAX_FORGETTING:
        return None
    kept = np.flatnonzero(drift.values >= -MAX_FORGETTING)
    since = int(drift.steps[int(kept.max(initial=-1)) + 1])
    lost = -float(drift.values[-1])
    cause = Cause(
        name=CauseName.FORGETTING,
        reason=f"Answers to general questions, and plain prose, became {short_number(lost)} nats "
        f"per token less likely, a perplexity {short_number(float(np.exp(lost)))} times as large. "
        "No task of the run asks for them, so nothing holds the policy to them.",
        change="Set algorithm.reference_kl.coefficient, to 0.01 at first, lower "
        "optimizer.learning_rate, or stop after fewer steps.",
    )
    finding = (
        f"{text_for(metric).title} is {short_number(-lost)}, below "
        f"{short_number(-MAX_FORGETTING)} since step {since}: nats per token."
    )
    evidence = Departure(
        metric=metric, step=since, value=-lost, limit=-MAX_FORGETTING, finding=finding
    )
    return Fault(cause=cause, evidence=evidence)


def _much(metric: str, step: int, value: float, limit: float) -> Departure:
    finding = f"{text_for(metric).title}: {short_number(value)}, above {limit:g}."
    return Departure(metric=metric, step=step, value=value, limit=limit, finding=finding)
