"""Figures 1 and 4 where runs do collapse: at the edge of stability.

At the learning rate of the studies hardly any run collapses, so there is little for importance
sampling, clipping or replay to prevent. These studies repeat them at the smallest candidate of
`learning_rate` that its rule refuses, at which on-policy MiniRL no longer keeps 95% of its best
reward. Nothing but the learning rate differs, and the claims are those of the figures.
"""

from collections.abc import Callable
from dataclasses import replace

from steadyrl.policies.numerics import Numerics
from steadyrl.studies.learning_rate import CANDIDATES
from steadyrl.studies.study import Condition, Study, changed
from steadyrl.studies.world import LEARNING_RATE

EDGE = min(rate for rate in CANDIDATES if rate > LEARNING_RATE)


def at_the_edge(figure: Callable[[Numerics], Study], numerics: Numerics) -> Study:
    """`figure` at the learning rate `EDGE`."""
    study = figure(numerics)
    return replace(
        study,
        level=f"{study.level}-edge",
        title=f"{study.title}, learning rate {EDGE:.0e}",
        conditions=tuple(_at_the_edge(condition) for condition in study.conditions),
    )


def _at_the_edge(condition: Condition) -> Condition:
    optimizer = condition.config.optimizer.model_copy(update={"learning_rate": EDGE})
    return replace(condition, config=changed(condition.config, optimizer=optimizer))
