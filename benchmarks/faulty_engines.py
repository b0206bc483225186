"""Engines with a fault, for `injected_faults.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor

from steadyrl.engines import local
from steadyrl.engines.protocol import Request, RolloutEngine, Sampling
from steadyrl.engines.sampler import sample
from steadyrl.records.completion import Completion

Answers = list[list[Completion]]


class WrappedEngine:
    """An engine that does what the one inside does. Faults override a part of it."""

    def __init__(self, engine: RolloutEngine) -> None:
        self.engine = engine
        self.policy_version = engine.policy_version

    @property
    def max_positions(self) -> int | None:
        """As in the wrapped engine."""
        return self.engine.max_positions

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """As in the wrapped engine."""
        self.engine.load_weights(weights, version)
        self.policy_version = version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Answers:
        """As in the wrapped engine."""
        return self.engine.generate(requests, sampling)


class NeverSynced(WrappedEngine):
    """Keeps the weights it got first, and reports the version of those it was given."""

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Loads what no update has changed yet."""
        if version == 0:
            self.engine.load_weights(weights, version)
        self.policy_version = version


class ShiftedRoutes(WrappedEngine):
    """Gives every token the routes of the token before it; the checksum is that of the tokens."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Answers:
        """Completions whose routes are rolled by one position."""
        return [[_shifted(c) for c in answers] for answers in super().generate(requests, sampling)]


def _shifted(completion: Completion) -> Completion:
    assert completion.routing is not None
    experts = torch.cat(completion.routing.experts[0]).roll(1, dims=0)
    return replace(completion, routing=replace(completion.routing, experts=((experts,),)))


def at_temperature(temperature: float) -> Callable[[RolloutEngine], RolloutEngine]:
    """Engines that sample, and report, at `temperature` whatever they are asked for."""

    class AtTemperature(WrappedEngine):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> Answers:
            asked = sampling.model_copy(update={"temperature": temperature})
            return super().generate(requests, asked)

    return AtTemperature


class SilentTopP(WrappedEngine):
    """Draws from the top 0.7 of the probability, and reports probabilities of the whole."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Answers:
        """Completions drawn by `_silent_top_p`."""
        with mock.patch.object(local, "sample", _silent_top_p):
            return super().generate(requests, sampling)


def _silent_top_p(
    logits: Tensor, uniform: Tensor, sampling: Sampling, top_p: float = 0.7
) -> tuple[Tensor, Tensor]:
    tokens, _ = sample(logits, uniform, sampling.model_copy(update={"top_p": top_p}))
    logprobs = (logits.float() / sampling.temperature).log_softmax(dim=-1)
    return tokens, logprobs.gather(-1, tokens[:, None]).squeeze(-1)
