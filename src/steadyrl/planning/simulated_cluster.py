"""What a simulation of asynchronous training runs on: engines, a learner, and disturbances."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steadyrl.planning.hardware import constant
from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.plan import RunPlan


@runtime_checkable
class DecodeCost(Protocol):
    """Time that an engine takes; `EngineCost` is one."""

    def decode_seconds(self, running: float, context: float) -> float:
        """Time in which `running` sequences with `context` positions each get a token."""
        ...

    def prefill_seconds(self, tokens: float, length: float) -> float:
        """Time in which prompts of `length` with so many tokens together are read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDecoding:
    """An engine whose tokens take a measured time, whatever else is running.

    Example:
        MeasuredDecoding(token_seconds=0.01)
    """

    token_seconds: float

    def decode_seconds(self, running: float, context: float) -> float:
        """The measured time."""
        return self.token_seconds

    def prefill_seconds(self, tokens: float, length: float) -> float:
        """Prompts are part of the measured time."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbances:
    """What goes wrong on a cluster.

    Example:
        Disturbances(hours_between_failures=50.0, restart_seconds=120.0, slow_share=0.05)
    """

    hours_between_failures: float = math.inf
    """Mean hours until one engine fails."""

    restart_seconds: float = 120.0
    """Until a failed engine begins its sequences again."""

    slow_share: float = 0.0
    """Share of engines that are slow."""

    slowdown: float = 1.5
    """Times as long as others that a slow engine takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCluster:
    """What is simulated.

    Example:
        SimulatedCluster(cost=plan.engine, engines=16, slots=64, groups=64, group=16, prompt=256,
                         lengths=plan.work.lengths, train_seconds=60.0, sync_seconds=5.0)
    """

    cost: DecodeCost
    engines: int

    slots: int
    """Sequences that an engine decodes at the same time."""

    groups: int
    """Groups that a step consumes."""

    group: int
    """Sequences of a group, all on one engine."""

    prompt: int
    lengths: ResponseLengths
    train_seconds: float
    sync_seconds: float
    disturbances: Disturbances = Disturbances()

    speed_together: float = 1.0
    """Speed of engines and learner while both compute, as a share of that alone. 1: they share
    nothing. 0.5: they share one processor. Between: memory, or caches."""


def simulated_cluster(plan: RunPlan, disturbances: Disturbances) -> SimulatedCluster:
    """The cluster of a plan whose engines and learner are apart."""
    return SimulatedCluster(
        cost=plan.engine,
        engines=plan.layout.engines,
        slots=plan.capacity,
        groups=max(1, plan.work.sequences // plan.work.group),
        group=plan.work.group,
        prompt=plan.work.prompt,
        lengths=plan.work.lengths,
        train_seconds=plan.time.scoring + plan.time.update,
        sync_seconds=plan.time.sync,
        disturbances=disturbances,
        speed_together=constant("cpu_together") if plan.layout.cluster.accelerator.is_cpu else 1.0,
    )
