"""Warnings of runs beyond the measured borders, by the rule of remedies."""

import numpy as np

from steadyrl.analysis.remedy_rule import InUse, Measured, in_words, measured_rule
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage
from steadyrl.analysis.signals import MIN_STEPS, WINDOW


def border_remarks(stage: Stage, settings: RunSettings) -> tuple[str, ...]:
    """What lies beyond its border in the first steps of a stage of reinforcement.

    Nothing is said of runs that are too short, or lack a metric, or log less than ours may; nor
    where even the smallest dose lies beyond the border, so that the border itself is not known.
    """
    measured = _measured(stage, settings)
    if measured is None or settings.partial_log:
        return ()
    replay = settings.routing_replay
    in_use = InUse(
        importance_weights=settings.importance_weights,
        clipping=settings.clips,
        replay="r2" if replay == "r2" else "r3" if replay == "r3" else "none",
    )
    beyond = measured_rule().excesses(measured, in_use)
    return tuple([f"{in_words(each)}." for each in beyond if each.limit > 0])


def _measured(stage: Stage, settings: RunSettings) -> Measured | None:
    mismatch, staleness = (_early(stage, name) for name in ("mismatch_kl_k3", "staleness_kl_k3"))
    if mismatch is None or stage.last_step < MIN_STEPS:
        return None
    return Measured(
        mismatch=mismatch,
        disagreement=_early(stage, "routing_disagreement"),
        staleness=staleness or 0.0,
        mini_batches=settings.mini_batches,
    )


def _early(stage: Stage, metric: str) -> float | None:
    """The median over the first steps; None where the run lacks the metric."""
    series = stage.finite(metric)
    if series is None or not len(series.values):
        return None
    return float(np.median(series.values[:WINDOW]))
