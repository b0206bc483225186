"""What an algorithm gives to the loop: token batches, and loss terms on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from steadyrl.engines.protocol import Engine
from steadyrl.learners.loss_term import LossTerm
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group
from steadyrl.records.weight_source import WeightSource

MiniBatch = tuple[TokenBatch, ...]
"""What one optimiser step learns from: at least one batch, each of rows that are treated alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What was collected for one step of the loop: one optimiser step per mini-batch."""

    mini_batches: tuple[MiniBatch, ...]

    groups: tuple[Group, ...] = ()
    """The episodes behind it, for the record."""

    metrics: Mapping[str, float] = field(default_factory=dict)

    memory_writes: tuple[MemoryWrite, ...] = ()
    """What the algorithm has written into its memory, for the record."""

    notes: tuple[str, ...] = ()
    """Sentences about what became of the step that nobody would expect. The run keeps each once."""

    failures: tuple[str, ...] = ()
    """Why tasks or demonstrations are missing of which `groups` has no episode."""

    policy_version: int | None = None
    """Version of the weights that sampled it; None: those that the engine holds."""

    seconds: float | None = None
    """How long it took another process to collect it; None: it was collected in this one."""


@runtime_checkable
class Algorithm(Protocol):
    """Collects experience and says what is to be minimised on it."""

    samples_from_engine: bool
    """Whether `collect` uses the engine, so that the engine needs new weights after each step."""

    async def collect(self, step: int, engine: Engine) -> Experience:
        """The experience of step `step`: a function of the step, the engine's weights and, for one
        that has it, the algorithm's state.
        """
        ...

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """The terms whose sum one optimiser step minimises."""
        ...


@runtime_checkable
class SupportsReference(Protocol):
    """An algorithm that may sample from the weights with which its stage began."""

    async def take_reference(self, reference: WeightSource) -> None:
        """Takes these weights, which are not trained, before the first step."""
        ...


@runtime_checkable
class SupportsState(Protocol):
    """An algorithm that remembers something from step to step."""

    def state(self) -> Any:
        """What it remembers, as values that JSON can hold."""
        ...

    def load_state(self, state: Any) -> None:
        """Remembers what `state()` gave, and nothing else.

        Raises:
            UserError: an algorithm with other settings gave it.
        """
        ...
