"""The figures at the edge of stability, where runs collapse.

At the learning rate of the studies hardly any run collapses, so there is little for importance
sampling, clipping or replay to prevent. These studies repeat them at the smallest candidate of
`learning_rate` that its rule refuses, at which on-policy MiniRL no longer keeps 95% of its best
reward. Nothing but the learning rate differs, and the claims are those of the figures.
"""

from collections.abc import Callable

from steadyrl.lab.learning_rate import CANDIDATES
from steadyrl.lab.study import Study, changed
from steadyrl.lab.world import LEARNING_RATE
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

EDGE = min(rate for rate in CANDIDATES if rate > LEARNING_RATE)


def at_the_edge(figure: Callable[[Numerics], Study], numerics: Numerics) -> Study:
    """`figure` at the learning rate `EDGE`."""
    title = f"learning rate {EDGE:.0e}"
    return figure(numerics).varied(_at_the_edge, level="edge", title=title)


def _at_the_edge(config: RunConfig) -> RunConfig:
    optimizer = config.optimizer.model_copy(update={"learning_rate": EDGE})
    return changed(config, optimizer=optimizer.model_dump())
