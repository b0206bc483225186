"""Samplers of a run's rollouts: in this process, or in another one.

The loop only sees the protocol, so that it reads the same for an engine in this process, for a
second process and for actors of a cluster.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from steadyrl.algorithms.protocol import Algorithm, Rollout, SupportsReference, SupportsState
from steadyrl.engines.protocol import Engine
from steadyrl.records.weight_source import WeightSource
from steadyrl.training.stage import Stage

PendingRollout = Callable[[], Awaitable[Rollout]]
"""Waits for a rollout. Called once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRollouts:
    """What a sampler has started and no step has consumed, as a checkpoint stores it."""

    schedule: Mapping[str, Any]
    """State of its `Schedule`."""

    finished: bytes
    """Rollouts of the finished units, by number, as plain data."""


@runtime_checkable
class Sampler(Protocol):
    """Samples the rollouts of stages, and holds what their algorithms remember between rollouts.

    Stages are given by their number in the run.
    """

    async def begin(self, stage: int, step: int) -> PendingRollout:
        """Begins the rollout of a step, with the weights that the engine received last.

        Later weights have no effect on it, unless the sampler is continuous. Rollouts are sampled
        in the order in which they begin.
        """
        ...

    async def take_reference(self, stage: int, reference: WeightSource) -> None:
        """Gives the algorithm the weights at the beginning of its stage."""
        ...

    def state(self, stage: int) -> Any:
        """State of the algorithm after the rollouts begun so far; None if it has none."""
        ...

    def load_state(self, stage: int, state: Any) -> None:
        """Restores the state of the algorithm."""
        ...

    def waiting(self, stage: int) -> WaitingRollouts | None:
        """What has started and no step has consumed; None: nothing, at a checkpoint."""
        ...

    def load_waiting(self, stage: int, waiting: WaitingRollouts) -> None:
        """Restores `waiting()`."""
        ...


class LocalSampler:
    """Samples in this process: a rollout is complete when `begin` returns."""

    def __init__(self, stages: Sequence[Stage], engine: Engine) -> None:
        self._algorithms = [stage.algorithm for stage in stages]
        self._engine = engine

    async def begin(self, stage: int, step: int) -> PendingRollout:
        """Samples the rollout."""
        rollout = await sample(self._algorithms[stage], step, self._engine)

        async def finished() -> Rollout:
            return rollout

        return finished

    async def take_reference(self, stage: int, reference: WeightSource) -> None:
        """Gives the algorithm the weights at the beginning of its stage."""
        algorithm = self._algorithms[stage]
        if isinstance(algorithm, SupportsReference):
            await algorithm.take_reference(reference)

    def state(self, stage: int) -> Any:
        """State of the algorithm; None if it has none."""
        algorithm = self._algorithms[stage]
        return algorithm.state() if isinstance(algorithm, SupportsState) else None

    def load_state(self, stage: int, state: Any) -> None:
        """Restores the state of the algorithm."""
        algorithm = self._algorithms[stage]
        assert isinstance(algorithm, SupportsState), "only a stateful algorithm has a saved state"
        algorithm.load_state(state)

    def waiting(self, stage: int) -> WaitingRollouts | None:
        """Nothing: no rollout is sampled ahead of a checkpoint."""
        return None

    def load_waiting(self, stage: int, waiting: WaitingRollouts) -> None:
        """Never called, as nothing was waiting."""
        raise AssertionError("this sampler leaves nothing waiting at a checkpoint")


async def sample(algorithm: Algorithm, step: int, engine: Engine) -> Rollout:
    """Plays what `algorithm` plans for `step`, and measures the time that it takes."""
    started = time.perf_counter()
    rollout = await algorithm.play(algorithm.plan(step), engine)
    seconds = time.perf_counter() - started
    return replace(rollout, policy_version=engine.policy_version, seconds=seconds)
