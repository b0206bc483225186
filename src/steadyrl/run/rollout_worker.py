"""Entry point of the rollout process: an engine and algorithms that serve requests."""

import gc
import warnings
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.algorithms.protocol import Rollout
from steadyrl.base.concurrency import concurrently
from steadyrl.base.progress import Progress
from steadyrl.engines.canary import EngineReading, read_engine
from steadyrl.engines.driver import EngineLoop
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.records.completion import Completion
from steadyrl.records.shared_weights import Layout, WeightFiles
from steadyrl.records.weight_source import StateDictWeights, WeightSource
from steadyrl.run.components import Components, make_engine, make_sampler, make_stages
from steadyrl.run.config import RunConfig
from steadyrl.training.continuous_sampler import ContinuousSampler
from steadyrl.training.sampler import WaitingRollouts

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerState:
    """State of a sampler after its last rollout or sync, to which a new process is brought."""

    stage: int

    algorithm: Any
    """State of the stage's algorithm; None if it has none."""

    schedule: Mapping[str, Any] | None
    """State of the `Schedule` of a continuous sampler. Finished rollouts are sampled again, too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question that changes the state of the sampler."""

    value: Any

    state: SamplerState | None
    """None before the first rollout."""


class Worker:
    """Each public method answers the question of its name."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._loop = EngineLoop()

    def begin(self, config: RunConfig, folder: Path, layout: Layout) -> None:
        """Builds engine and algorithms. There is no learner in this process.

        Args:
            folder: Folder of files with weights.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the other process has issued them
            components = Components.load(config, self._progress)
            stages = make_stages(config, components, self._progress)
            self._engine = make_engine(config, components.policy, progress=self._progress)
        self._sampler = make_sampler(config, stages, self._engine)
        self._files = WeightFiles(folder, layout)
        self._stage: int | None = None
        gc.collect()
        gc.freeze()  # collections skip what lives as long as the process: they took 0.2 s each

    def sync(self, name: str, version: int) -> Answer:
        """Loads the weights in the file `name` into the engine."""

        async def load() -> None:
            await self._engine.sync(self._shared(name, version))
            if isinstance(self._sampler, ContinuousSampler):
                await self._sampler.publish()

        self._run(load())
        return Answer(None, self._state())

    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        return self._engine.capabilities

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The answers to each request."""
        return self._run(concurrently(map(self._engine.generate, requests)))

    def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """The log-probability of each token."""
        return self._run(self._engine.score(sequences))

    def read(self, probes: Sequence[Int[Tensor, " T"]]) -> EngineReading:
        """A reading of the canary's probes."""
        return self._run(read_engine(self._engine, probes))

    def sample(self, stage: int, step: int) -> Answer:
        """The rollout of a step."""

        async def rollout() -> Rollout:
            pending = await self._sampler.begin(stage, step)
            return await pending()

        sampled = self._run(rollout())
        self._stage = stage
        return Answer(sampled, self._state())

    def restore(self, state: SamplerState) -> None:
        """Goes on from `state`, with the weights that are loaded."""
        self._stage = state.stage
        if state.algorithm is not None:
            self._sampler.load_state(state.stage, state.algorithm)
        if state.schedule is not None:
            assert isinstance(self._sampler, ContinuousSampler)
            self._run(self._sampler.start_again(state.stage, state.schedule))

    def take_reference(self, name: str, stage: int, version: int) -> None:
        """Gives the algorithm the weights in the file `name`, those of the reference policy."""
        self._run(self._sampler.take_reference(stage, self._shared(name, version)))

    def state(self, stage: int) -> Any:
        """The state of an algorithm."""
        return self._sampler.state(stage)

    def load_state(self, stage: int, state: Any) -> None:
        """Restores the state of an algorithm."""
        self._sampler.load_state(stage, state)

    def waiting(self, stage: int) -> WaitingRollouts | None:
        """What has started and no step has consumed."""
        return self._sampler.waiting(stage)

    def load_waiting(self, stage: int, waiting: WaitingRollouts) -> None:
        """Restores what was waiting."""
        self._sampler.load_waiting(stage, waiting)

    def work_until(self, readable: int) -> None:
        """Goes on sampling until the file `readable` can be read: until there is a question."""
        self._loop.add_reader(readable, self._loop.stop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.remove_reader(readable)

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._loop.run_until_complete(coroutine)

    def _state(self) -> SamplerState | None:
        if self._stage is None:
            return None
        sampler = self._sampler
        return SamplerState(
            stage=self._stage,
            algorithm=sampler.state(self._stage),
            schedule=sampler.schedule if isinstance(sampler, ContinuousSampler) else None,
        )

    def _shared(self, name: str, version: int) -> WeightSource:
        return StateDictWeights(state=self._files[name].tensors, version=version)
