"""Engine and sampler of a rollout process, as the other parts of a run know them."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.algorithms.protocol import Rollout
from steadyrl.engines.canary import EngineReading
from steadyrl.engines.protocol import Engine, EngineCapabilities, Request
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource, full_weights
from steadyrl.run.rollout_process import RolloutProcess
from steadyrl.training.sampler import LocalSampler, PendingRollout, WaitingRollouts
from steadyrl.training.stage import Stage


class RemoteSampler(LocalSampler):
    """Samples in a rollout process; stages that need no engine are played in this process."""

    def __init__(self, stages: Sequence[Stage], engine: Engine, process: RolloutProcess) -> None:
        super().__init__(stages, engine)
        self._process = process
        self._is_remote = [stage.algorithm.samples_from_engine for stage in stages]

    async def begin(self, stage: int, step: int) -> PendingRollout:
        """Asks the process for the rollout, which it samples after those asked for before."""
        if not self._is_remote[stage]:
            return await super().begin(stage, step)
        answer = self._process.ask("sample", stage, step)

        async def finished() -> Rollout:
            rollout: Rollout = self._process.wait(answer)
            return rollout

        return finished

    async def take_reference(self, stage: int, reference: WeightSource) -> None:
        """Gives the algorithm in the process the weights at the beginning of its stage."""
        weights = dict(full_weights(reference).tensors("model"))
        self._process.load("take_reference", "reference", weights, stage, reference.version)

    def state(self, stage: int) -> Any:
        """State of the algorithm, after all rollouts asked for; None if it has none."""
        remote = self._is_remote[stage]
        return self._process.call("state", stage) if remote else super().state(stage)

    def load_state(self, stage: int, state: Any) -> None:
        """Restores the state of the algorithm."""
        if self._is_remote[stage]:
            self._process.call("load_state", stage, state)
        else:
            super().load_state(stage, state)

    def waiting(self, stage: int) -> WaitingRollouts | None:
        """What has started in the process and no step has consumed."""
        if not self._is_remote[stage]:
            return None
        waiting: WaitingRollouts | None = self._process.call("waiting", stage)
        return waiting

    def load_waiting(self, stage: int, waiting: WaitingRollouts) -> None:
        """Restores `waiting()`."""
        self._process.call("load_waiting", stage, waiting)


class RemoteEngine(SteppedEngine):
    """The engine of a rollout process. All requests made before a step are answered in that step.

    Closing it ends the process.
    """

    def __init__(self, process: RolloutProcess) -> None:
        super().__init__()
        self._process = process
        self.policy_version = -1
        self._requests: dict[int, Request] = {}
        self._submitted = 0

    @cached_property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine in the process."""
        capabilities: EngineCapabilities = self._process.call("capabilities")
        return capabilities

    def submit(self, request: Request) -> int:
        """Accepts a request; returns its number."""
        number = self._submitted
        self._submitted += 1
        self._requests[number] = request
        return number

    def step(self) -> dict[int, list[Completion]]:
        """The answers to all requests."""
        requests, self._requests = self._requests, {}
        answers = self._process.call("generate", list(requests.values()))
        return dict(zip(requests, answers, strict=True))

    def withdraw(self, number: int) -> None:
        """Drops a request."""
        self._requests.pop(number, None)

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1."""
        scores: list[Float[Tensor, " _T"]] = self._process.call("score", sequences)
        return scores

    def begin_reading(self, probes: Sequence[Int[Tensor, " T"]]) -> Callable[[], EngineReading]:
        """Begins a reading with the weights that were sent last; the result waits for it."""
        answer = self._process.ask("read", list(probes))
        return lambda: self._process.wait(answer)

    async def sync(self, weights: WeightSource) -> None:
        """Sends the weights of a learner to the process."""
        self._process.sync(dict(full_weights(weights).tensors("model")), weights.version)
        self.policy_version = weights.version

    def take_restarts(self) -> Sequence[str]:
        """A sentence about each restart of the process since the last call."""
        return self._process.restarts.take()

    def close(self) -> None:
        """Ends the process."""
        self._process.close()
