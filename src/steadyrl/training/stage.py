"""A stage of a run: an algorithm, for a number of steps."""

from dataclasses import dataclass, field

from steadyrl.algorithms.protocol import Algorithm
from steadyrl.training.measurements import Bounds
from steadyrl.training.optimizer import OptimizerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage. A run is a list of them, in order, on the same weights."""

    name: str
    """`cold_start` or `rl`."""

    algorithm: Algorithm
    steps: int
    optimizer: OptimizerSettings
    temperature: float
    bounds: Bounds = field(default_factory=Bounds)

    evaluate_every: int | None = None
    """Steps between evaluations; the state before the first step and the last are included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run stands: `step` steps of stage number `stage` are done."""

    stage: int = 0
    step: int = 0
