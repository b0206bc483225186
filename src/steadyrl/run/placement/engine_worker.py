"""What runs in an engine's actor: the engine of the run, which serves requests."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.progress import Progress
from steadyrl.engines.engine_settings import ModelEngineSettings
from steadyrl.engines.protocol import (
    EngineCapabilities,
    Request,
    SupportsSyncMeasurement,
)
from steadyrl.policies.checkpoint_names import to_checkpoint_names
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import AdapterWeights, StateDictWeights, WeightSource
from steadyrl.run.components import load_policy, make_engine
from steadyrl.run.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SentWeights:
    """Weights on their way to the engines."""

    version: int
    tensors: Mapping[str, Tensor]
    adapter_config: Mapping[str, Any] | None = None
    """That of an adapter; None: these are all weights of the model, under its names."""


class EngineWorker:
    """Each public method answers the question of its name."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, config: RunConfig) -> EngineCapabilities:
        """Builds the engine with the initial weights of the run."""
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the driver has issued them
            policy, _ = load_policy(config, load_tokenizer(config.model))
            self._engine = make_engine(config, policy, progress=self._progress)
        if isinstance(config.engine, ModelEngineSettings):
            policy.model.to("meta")  # the engine has a copy of its own
        self._to_checkpoint = partial(to_checkpoint_names, policy.model)
        return self._engine.capabilities

    async def sync(self, weights: SentWeights) -> Reach | None:
        """Loads weights; returns how much of the update has reached the engine."""
        await self._engine.sync(self._source(weights))
        engine = self._engine
        return engine.reach if isinstance(engine, SupportsSyncMeasurement) else None

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to a request."""
        return await self._engine.generate(request)

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """The log-probability of each token."""
        return await self._engine.score(sequences)

    def _source(self, sent: SentWeights) -> WeightSource:
        if sent.adapter_config is not None:
            return AdapterWeights(
                state=sent.tensors, adapter_config=sent.adapter_config, version=sent.version
            )
        return StateDictWeights(
            state=sent.tensors, version=sent.version, to_checkpoint=self._to_checkpoint
        )
