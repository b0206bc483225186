"""A stage of a run: an algorithm, for a number of steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steadyrl.algorithms.protocol import Algorithm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.replay_choice import ReplayChoice

ReplayRule = Callable[[Sequence[Mapping[str, Any]]], ReplayChoice]
"""From the metrics of the stage's steps so far to the routing replay of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage. A run is a list of them, in order, on the same weights."""

    name: str
    """`cold_start` or `rl`."""

    algorithm: Algorithm
    steps: int
    optimizer: OptimizerSettings
    temperature: float

    needs_reference: bool = False
    """Whether loss terms read, or reflections are written by, a reference policy: the weights with
    which the stage begins."""

    replay: ReplayRule | None = None
    """Chooses the routing replay before each step; None leaves it as the learner has it."""

    evaluate_every: int | None = None
    """Steps between evaluations; the state before the first step and the last are included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPosition:
    """Position of a run: `step` steps of stage number `stage` are done."""

    stage: int = 0
    step: int = 0
