"""What a rollout engine is: prompts in; tokens, log-probabilities and routing out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int
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
    """One prompt and how many answers to it.

    The same request gives the same answers in every engine whose numerics agree, whatever else is
    in the batch: answer `i` draws its token `t` with the uniform number `(i, t)` of `seed`.
    """

    prompt_ids: Int[Tensor, " P"]
    num_completions: int
    seed: int


def has_room(max_positions: int | None, prompt_length: int, sampling: Sampling) -> bool:
    """Whether an engine can hold a prompt of so many tokens and a whole answer to it.

    Args:
        max_positions: That of the engine.
    """
    return max_positions is None or prompt_length + sampling.max_new_tokens <= max_positions


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples from its own copy of the policy, in its own arithmetic."""

    @property
    def policy_version(self) -> int:
        """Version of the weights loaded last."""
        ...

    @property
    def max_positions(self) -> int | None:
        """Tokens that a prompt and its answer may have together; None: no limit."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each request, in order.

        Raises:
            UserError: a prompt is empty, or with its budget exceeds the model's positions.
        """
        ...

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Takes over the trainer's weights.

        Raises:
            ValueError: names or shapes are not those of this engine's model.
        """
        ...


def sync_weights(engine: RolloutEngine, weights: WeightSource) -> None:
    """Loads `weights` into an engine whose model is of the same Transformers class."""
    engine.load_weights(dict(weights.tensors("model")), weights.version)


@runtime_checkable
class MeasuresSync(Protocol):
    """An engine that knows what of the trainer's movement its own rounding lets through."""

    @property
    def reach(self) -> Reach | None:
        """What arrived of the movement between the last two loads; None before there were two."""
        ...
