"""Entry point of the rollout process: an engine and algorithms that serve requests."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.algorithms.protocol import Rollout
from steadyrl.base.progress import Progress
from steadyrl.engines.canary import EngineReading, read_engine
from steadyrl.engines.driver import drive, generate_all
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.records.completion import Completion
from steadyrl.records.shared_weights import Layout, SharedWeights
from steadyrl.records.weight_source import StateDictWeights, WeightSource
from steadyrl.run.components import Components, make_engine, make_stages
from steadyrl.run.config import RunConfig
from steadyrl.training.sampler import LocalSampler


class Worker:
    """Each public method answers the question of its name."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, config: RunConfig, path: Path, layout: Layout) -> None:
        """Builds engine and algorithms. There is no learner in this process."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the other process has issued them
            components = Components.load(config, self._progress)
            stages = make_stages(config, components, self._progress)
            self._engine = make_engine(config, components.policy, progress=self._progress)
        self._sampler = LocalSampler(stages, self._engine)
        self._weights = SharedWeights(path, layout)

    def sync(self, version: int) -> None:
        """Loads the shared weights into the engine."""
        drive(self._engine.sync(self._shared(version)))

    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        return self._engine.capabilities

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The answers to each request."""
        return generate_all(self._engine, requests)

    def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """The log-probability of each token."""
        return drive(self._engine.score(sequences))

    def read(self, probes: Sequence[Int[Tensor, " T"]]) -> EngineReading:
        """A reading of the canary's probes."""
        return drive(read_engine(self._engine, probes))

    def sample(self, stage: int, step: int) -> Rollout:
        """The rollout of a step."""

        async def rollout() -> Rollout:
            pending = await self._sampler.begin(stage, step)
            return await pending()

        return drive(rollout())

    def take_reference(self, stage: int, version: int) -> None:
        """Gives the algorithm the shared weights, which are those of the reference policy."""
        drive(self._sampler.take_reference(stage, self._shared(version)))

    def state(self, stage: int) -> Any:
        """The state of an algorithm."""
        return self._sampler.state(stage)

    def load_state(self, stage: int, state: Any) -> None:
        """Restores the state of an algorithm."""
        self._sampler.load_state(stage, state)

    def _shared(self, version: int) -> WeightSource:
        return StateDictWeights(state=self._weights.tensors, version=version)
