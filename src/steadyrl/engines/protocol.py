"""What a rollout engine is: prompts in; tokens, log-probabilities and routing out.

Its calls are awaited, so that an object of this process, another process or a server can stand
behind it. Many requests may be under way at once: how they share a batch is the engine's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from steadyrl.base.settings import Settings
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource


class Sampling(Settings):
    """How tokens are drawn."""

    temperature: float = Field(1.0, ge=0.0, allow_inf_nan=False)
    """Logits are divided by it. 0 takes the most probable token."""

    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Draw from the smallest set of tokens that holds this probability."""

    top_k: int | None = Field(None, ge=1)
    """Draw from this many most probable tokens at most."""

    max_new_tokens: int = Field(1024, ge=1)
    """Token budget of one turn of the model, its end token included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt, how many answers to it, and how they are drawn.

    Under exact draws the same request gives the same answers in every engine whose numerics agree,
    whatever else is in the batch: answer `i` draws its token `t` with the uniform number `(i, t)`
    of `seed`.

    Example:
        Request(prompt_ids=torch.tensor([3, 17, 4]), num_completions=16, seed=7,
                sampling=Sampling(max_new_tokens=256))
    """

    prompt_ids: Int[Tensor, " P"]
    num_completions: int
    seed: int
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapabilities:
    """What an engine can do. A run refuses an engine that lacks what its configuration needs."""

    max_positions: int | None
    """Maximum tokens of a prompt and its answer together; None: no limit."""

    routing: bool
    """Completions carry the experts that every fed token was sent to."""

    exact_draws: bool
    """Tokens are drawn by the request's own random numbers, so that runs can repeat."""

    scoring: bool
    """It scores given tokens."""

    sampling_masks: bool = False
    """Completions tell which tokens top-p and top-k left to draw from."""

    adapters: bool = False
    """Weights may arrive as an adapter over an unchanged base."""

    def has_room(self, prompt_length: int, sampling: Sampling) -> bool:
        """Whether a prompt of so many tokens leaves room for a whole answer."""
        limit = self.max_positions
        return limit is None or prompt_length + sampling.max_new_tokens <= limit


@runtime_checkable
class Engine(Protocol):
    """Samples from its own copy of the policy, in its own arithmetic."""

    @property
    def capabilities(self) -> EngineCapabilities:
        """What it can do."""
        ...

    @property
    def policy_version(self) -> int:
        """Version of the weights it received last."""
        ...

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to `request`, in the order of their random numbers.

        Raises:
            UserError: the prompt is empty, or with its budget exceeds the engine's positions.
        """
        ...

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1.

        In the engine's numerics, and on the CPU. Entry 0 of each sequence is 0: nothing precedes
        its token.

        Raises:
            UserError: a sequence is empty or has more tokens than the engine has positions.
        """
        ...

    async def sync(self, weights: WeightSource) -> None:
        """Takes over the weights of a learner. Nothing computed with older ones is used again.

        Raises:
            UserError: they are an adapter, which this engine does not take.
            ValueError: names or shapes are not those of this engine's model.
        """
        ...


@runtime_checkable
class SupportsSyncMeasurement(Protocol):
    """An engine that knows what of the trainer's movement its own rounding lets through."""

    @property
    def reach(self) -> Reach | None:
        """What arrived of the movement between the last two syncs; None before there were two."""
        ...


@runtime_checkable
class SupportsWeightComparison(Protocol):
    """An engine that can look at its weights."""

    @property
    def compares_cheaply(self) -> bool:
        """Whether it takes little time and memory."""
        ...

    def differing_tensors(self, weights: WeightSource) -> list[str]:
        """Names of the engine's tensors that are not those of `weights`, which it received last."""
        ...
