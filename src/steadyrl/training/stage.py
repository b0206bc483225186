"""A stage of a run: an algorithm and a number of steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steadyrl.algorithms.protocol import Algorithm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.replay_choice import ReplayChoice

ReplayRule = Callable[[Sequence[Mapping[str, Any]]], ReplayChoice]
"""Chooses the routing replay of the next step from the metrics of the stage's earlier steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage. A run is a sequence of stages that train the same weights."""

    name: str
    """`cold_start` or `rl`."""

    algorithm: Algorithm
    steps: int
    optimizer: OptimizerSettings
    temperature: float

    max_staleness: int = 0
    """Number of steps by which the loop begins rollouts ahead of the updates; a continuous sampler
    begins them itself."""

    rescored_groups: int = 0
    """Number of groups per step whose tokens the engine scores again with its present weights."""

    needs_reference: bool = False
    """Whether loss terms or reflections use a reference policy: the weights at the beginning of the
    stage."""

    replay: ReplayRule | None = None
    """Chooses the routing replay before each step; None leaves the learner's setting unchanged."""

    evaluate_every: int | None = None
    """Number of steps between evaluations, which also take place before the first step and after
    the last; None: no evaluations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPosition:
    """Position of a run: `step` steps of stage number `stage` are complete."""

    stage: int = 0
    step: int = 0
