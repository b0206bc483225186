"""Rows of token-level dumps, in one layout for all formats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

UNKNOWN = -1
"""Expert at positions whose routes were not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpRow:
    """One sequence of `T` tokens, without the padding around it.

    Per-token values are aligned with `tokens`: entry `t` belongs to `tokens[t]` given the tokens
    before it. A log-probability that was not recorded is NaN only if `recorded` says so.
    """

    tokens: Int[ndarray, " T"]

    response_start: int
    """Number of tokens in the first prompt."""

    mask: Bool[ndarray, " T"]
    """Tokens that count: sampled by the policy."""

    padding: Bool[ndarray, " T"]
    """Tokens that the dump itself calls padding, although the mask may count them."""

    rollout_logprobs: Float[ndarray, " T"] | None = None
    """log mu_old, of the engine. None: not in this dump."""

    trainer_logprobs: Float[ndarray, " T"] | None = None
    """log pi_old, of the trainer. None: not in this dump."""

    entropy: Float[ndarray, " T"] | None = None
    """Of the trainer's distribution, in nats."""

    rollout_experts: Int[ndarray, "T L K"] | None = None
    """Experts of the engine's pass over `tokens[t]`; `UNKNOWN` where not recorded."""

    trainer_experts: Int[ndarray, "T L K"] | None = None

    @property
    def response(self) -> Int[ndarray, " R"]:
        """The tokens after the first prompt."""
        return self.tokens[self.response_start :]

    @property
    def prompt(self) -> Int[ndarray, " P"]:
        """The tokens of the first prompt."""
        return self.tokens[: self.response_start]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """The rows of a file or folder.

    Example:
        Dump(rows=(), name="step_1.jsonl", format="nemo-rl", has_mask=True)
    """

    rows: tuple[DumpRow, ...]
    name: str
    """Name of the file, for messages."""

    format: str
    has_mask: bool = True
    """Whether the dump says which tokens count. Otherwise all of a response do."""

    storage: str = "float32"
    """Coarsest number type of the stored log-probabilities."""

    notes: tuple[str, ...] = ()
    """What was left out of the file, in sentences."""

    @property
    def has_rollout(self) -> bool:
        """Whether it has log-probabilities of the engine."""
        return any(row.rollout_logprobs is not None for row in self.rows)

    @property
    def has_trainer(self) -> bool:
        """Whether it has log-probabilities of the trainer."""
        return any(row.trainer_logprobs is not None for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The same responses as engine and trainer recorded them."""

    rows: tuple[DumpRow, ...]
    """Rows with both columns: tokens and mask are the trainer's."""

    engine_prompts: tuple[Int[ndarray, " _P"], ...]
    """The prompt of each row in the engine's dump."""

    has_both_prompts: bool
    """Whether engine and trainer recorded their own prompts. Otherwise they are one column."""

    storage: str
    has_mask: bool
    notes: tuple[str, ...] = ()
    """What was done to pair the rows, in sentences."""


def with_rollout(row: DumpRow, engine: DumpRow) -> DumpRow:
    """The trainer's `row` with the engine's columns over the same response.

    The prompts may differ in length: values are aligned at the start of the response.
    """
    shift = row.response_start - engine.response_start
    length = len(row.tokens)
    logprobs, experts = engine.rollout_logprobs, engine.rollout_experts
    return replace(
        row,
        rollout_logprobs=None if logprobs is None else _moved(logprobs, shift, length, np.nan),
        rollout_experts=None if experts is None else _moved(experts, shift, length, UNKNOWN),
        padding=row.padding | _moved(engine.padding, shift, length, False),
    )


def _moved(values: ndarray, shift: int, length: int, fill: float | int) -> ndarray:
    """Values `shift` positions later, in `length` positions."""
    moved = np.full((length, *values.shape[1:]), fill, dtype=values.dtype)
    first, last = max(0, shift), min(length, len(values) + shift)
    if last > first:
        moved[first:last] = values[first - shift : last - shift]
    return moved


def coarsest(storages: Sequence[str]) -> str:
    """The coarsest of several number types."""
    order = ("float64", "float32", "float16", "bfloat16")
    return max(storages, key=order.index, default="float32")
