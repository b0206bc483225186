"""Protocol of rollout engines: prompts in; tokens, log-probabilities and routing out.

Calls are awaited, so an engine may be an object in this process, another process or a server. Many
requests may be processed concurrently; batching is the engine's business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource

LEAST_TEMPERATURE = 1e-6
"""Smallest divisor of logits. Float32 has no quotients for much smaller ones."""


class Sampling(Settings):
    """Sampling parameters."""

    temperature: float = Field(1.0, ge=0.0, allow_inf_nan=False)
    """Divisor of the logits. 0 selects the most probable token."""

    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Cumulative probability of the most probable tokens to sample from."""

    top_k: int | None = Field(None, ge=1)
    """Number of most probable tokens to sample from."""

    max_new_tokens: int = Field(1024, ge=1)
    """Maximum number of tokens per model turn, including the end token."""

    @field_validator("temperature")
    @classmethod
    def _divides(cls, temperature: float) -> float:
        if 0 < temperature < LEAST_TEMPERATURE:
            raise ValueError(
                f"must be 0, for the most probable token, or at least {LEAST_TEMPERATURE:g}"
            )
        return temperature

    @property
    def is_truncated(self) -> bool:
        """Whether top-p or top-k leaves tokens out."""
        return self.top_p < 1 or self.top_k is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt, the number of completions, and sampling parameters.

    With exact draws, a request has the same completions in every engine with the same numerics,
    whatever else is in the batch: completion `i` samples its token `t` with the uniform number `(i,
    t)` of `seed`.

    Example:
        Request(prompt_ids=torch.tensor([3, 17, 4]), num_completions=16, seed=7,
                sampling=Sampling(max_new_tokens=256))
    """

    prompt_ids: Int[Tensor, " P"]
    num_completions: int
    seed: int
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledToken:
    """A token of an answer that is still being sampled.

    Example:
        SampledToken(sample=0, position=4, token_id=17, logprob=-0.3)
    """

    sample: int
    """Number of the completion in its request."""

    position: int
    """Number of tokens before it in the completion. Smaller than expected if the engine starts the
    completion again, which may then have other tokens."""

    token_id: int
    logprob: float


TokenListener = Callable[[SampledToken], bool | None]
"""Receives tokens between two steps of the engine, so it must return soon and must not raise. True
allows the engine to end the completion with this token, as at the end of its budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapabilities:
    """Capabilities of an engine. A run rejects an engine that lacks those it needs."""

    max_positions: int | None
    """Maximum tokens of a prompt and its completion together; None: no limit."""

    routing: bool
    """Whether completions include the experts of every fed token."""

    exact_draws: bool
    """Whether tokens are sampled with the request's own random numbers, so that runs repeat."""

    scoring: bool
    """Whether it scores given tokens."""

    sampling_support: bool = False
    """Whether completions include the tokens that truncated sampling (top-p, top-k) could draw."""

    candidates: bool = False
    """Whether completions include the most probable tokens in place of each sampled one, where the
    run asks for them."""

    adapters: bool = False
    """Whether it accepts adapters of an unchanged base model."""

    def has_room(self, prompt_length: int, sampling: Sampling) -> bool:
        """Whether a prompt of `prompt_length` tokens leaves room for a completion."""
        limit = self.max_positions
        return limit is None or prompt_length + sampling.max_new_tokens <= limit

    def check_room(self, positions: int, sampling: Sampling | None = None) -> None:
        """Returns if the engine has room for so many tokens and the answer to them.

        Args:
            sampling: That of the answer; None: there is none.

        Raises:
            UserError: it has not, or there are no tokens.
        """
        budget = 0 if sampling is None else sampling.max_new_tokens
        if positions == 0:
            raise UserError("A prompt has no tokens. Check the chat template.")
        if self.max_positions is not None and positions + budget > self.max_positions:
            raise UserError(
                f"A prompt of {positions} tokens with max_new_tokens {budget} needs "
                f"{positions + budget} positions, but the engine has {self.max_positions}. Lower "
                "max_new_tokens, shorten the prompts, or give the engine more positions."
            )


@runtime_checkable
class Engine(Protocol):
    """Samples from its own copy of the policy, in its own numerics."""

    @property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        ...

    @property
    def policy_version(self) -> int:
        """Version of the current weights."""
        ...

    async def generate(self, request: Request) -> list[Completion]:
        """Completions of `request`, in the order of their random numbers.

        Raises:
            UserError: the prompt is empty, or prompt and token budget exceed the engine's
                positions.
        """
        ...

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every token given those before it, at temperature 1.

        Computed in the engine's numerics and returned on the CPU. Entry 0 of each sequence is 0,
        since nothing precedes its token.

        Raises:
            UserError: a sequence is empty or exceeds the engine's positions.
        """
        ...

    async def sync(self, weights: WeightSource) -> None:
        """Loads a learner's weights, with which all tokens are sampled and scored from then on.

        Running requests go on after the tokens that they have, without anything else that was
        computed with older weights, or start again. `Completion.versions` tells which weights
        sampled each token.

        Raises:
            UserError: the weights are an adapter, which this engine does not accept.
            ValueError: names or shapes do not match the engine's model.
        """
        ...


@runtime_checkable
class SupportsTokenStreams(Protocol):
    """An engine that may report tokens as they are sampled."""

    @property
    def streams_tokens(self) -> bool:
        """Whether it does."""
        ...

    async def stream(self, request: Request, listener: TokenListener) -> list[Completion]:
        """What `generate` returns. Until then, `listener` receives every token but end tokens.

        Raises:
            UserError: the prompt is empty, or prompt and token budget exceed the engine's
                positions.
        """
        ...


@runtime_checkable
class SupportsSyncMeasurement(Protocol):
    """An engine that measures how much of an update its rounding lets through."""

    @property
    def reach(self) -> Reach | None:
        """Share of the last update that reached the engine; None before two syncs."""
        ...


@runtime_checkable
class SupportsRestarts(Protocol):
    """An engine in other processes, which are started anew when they end."""

    def take_restarts(self) -> Sequence[str]:
        """A sentence about each restart since the last call."""
        ...


@runtime_checkable
class SupportsWeightComparison(Protocol):
    """An engine that can compare its weights."""

    @property
    def compares_cheaply(self) -> bool:
        """Whether a comparison takes little time and memory."""
        ...

    def differing_tensors(self, weights: WeightSource) -> list[str]:
        """Names of tensors that differ from `weights`, the last ones received."""
        ...
