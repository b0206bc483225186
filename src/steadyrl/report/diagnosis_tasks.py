"""Faults of tasks and updates: nothing comes of them, whatever the policy does."""

from steadyrl.report.diagnosis_causes import Cause, CauseName, Fault
from steadyrl.report.diagnosis_signals import Departure, finite, recent
from steadyrl.report.metric_texts import text_for
from steadyrl.report.run_data import Stage
from steadyrl.report.wording import short_number

MANY_FAILURES = 0.5
"""Share of episodes. A sound environment fails in none, a flaky service in some."""

WITHOUT_SIGNAL = 0.9
"""Share of groups whose rewards are all equal. Sparse rewards come near it now and then."""

REACHED = 0.5
"""Share of the masters' movement. It is 1 in expectation where rounding is unbiased, and was 0.01
to 0.1 where bfloat16 lost what was learned."""

PATIENCE = 10
"""Steps that a run is given to come upon a signal."""


def failing_environment(stage: Stage) -> Fault | None:
    """The environment itself fails in most episodes."""
    metric = "environment_failed_fraction"
    failed = recent(stage, metric)
    if failed is None or failed.values[-1] < MANY_FAILURES:
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


def _evidence(metric: str, step: int, value: float, limit: float) -> Departure:
    return Departure(
        metric=metric,
        step=step,
        value=value,
        limit=limit,
        finding=f"{text_for(metric).title} is {short_number(value)}; {limit} is much.",
    )
