"""Engines with a fault, for `injected_faults.py`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from steadyrl.engines.protocol import Engine, EngineCapabilities, Request
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource


class WrappedEngine:
    """An engine that does what the one inside does. Faults override a part of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.policy_version = engine.policy_version

    @property
    def capabilities(self) -> EngineCapabilities:
        """As in the wrapped engine."""
        return self.engine.capabilities

    async def generate(self, request: Request) -> list[Completion]:
        """As in the wrapped engine."""
        return await self.engine.generate(request)

    async def score(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        """As in the wrapped engine."""
        return await self.engine.score(sequences)

    async def sync(self, weights: WeightSource) -> None:
        """As in the wrapped engine."""
        await self.engine.sync(weights)
        self.policy_version = weights.version


class NeverSynced(WrappedEngine):
    """Keeps the weights it got first, and reports the version of those it was given."""

    async def sync(self, weights: WeightSource) -> None:
        """Takes over what no update has changed yet."""
        if weights.version == 0:
            await self.engine.sync(weights)
        self.policy_version = weights.version


class ShiftedRoutes(WrappedEngine):
    """Gives every token the routes of the token before it; the checksum is that of the tokens."""

    async def generate(self, request: Request) -> list[Completion]:
        """Completions whose routes are rolled by one position."""
        return [_shifted(completion) for completion in await super().generate(request)]


def _shifted(completion: Completion) -> Completion:
    assert completion.routing is not None
    experts = torch.cat(completion.routing.experts[0]).roll(1, dims=0)
    return replace(completion, routing=replace(completion.routing, experts=((experts,),)))


def at_temperature(temperature: float) -> Callable[[Engine], Engine]:
    """Engines that sample, and report, at `temperature` whatever they are asked for."""

    class AtTemperature(WrappedEngine):
        async def generate(self, request: Request) -> list[Completion]:
            sampling = request.sampling.model_copy(update={"temperature": temperature})
            return await super().generate(replace(request, sampling=sampling))

    return AtTemperature


class SilentTopP(WrappedEngine):
    """Draws from the top 0.7 of the probability, and reports probabilities of the whole."""

    async def generate(self, request: Request) -> list[Completion]:
        """Completions with the log-probabilities that the engine gives their tokens afterwards."""
        sampling = request.sampling.model_copy(update={"top_p": 0.7})
        assert sampling.temperature == 1, "engines score at temperature 1"
        completions = await super().generate(replace(request, sampling=sampling))
        sequences = [torch.cat([c.prompt_ids, c.token_ids]) for c in completions]
        scores = await self.score(sequences)
        return [
            replace(completion, logprobs=score[len(completion.prompt_ids) :])
            for completion, score in zip(completions, scores, strict=True)
        ]
