"""Protocol of algorithms: they collect token batches and define loss terms on them."""

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
"""Batches of one optimizer step, at least one. The rows of a batch are treated alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Experience collected for one step of the loop, with one optimizer step per mini-batch."""

    mini_batches: tuple[MiniBatch, ...]

    groups: tuple[Group, ...] = ()
    """Episodes to record."""

    metrics: Mapping[str, float] = field(default_factory=dict)

    memory_writes: tuple[MemoryWrite, ...] = ()
    """Memory writes to record."""

    notes: tuple[str, ...] = ()
    """Sentences on unexpected events. The run records each once."""

    failures: tuple[str, ...] = ()
    """Reasons of missing tasks or demonstrations without an episode in `groups`."""

    policy_version: int | None = None
    """Version of the weights that sampled it; None: those of the engine."""

    seconds: float | None = None
    """Seconds that another process took to collect it; None: it was collected in this one."""


@runtime_checkable
class Algorithm(Protocol):
    """Collects experience and defines the loss on it."""

    samples_from_engine: bool
    """Whether `collect` uses the engine, which then needs new weights after each step."""

    async def collect(self, step: int, engine: Engine) -> Experience:
        """Collects the experience of step `step`.

        It is a function of the step, the engine's weights and the algorithm's state.
        """
        ...

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """Terms whose sum is minimized in one optimizer step."""
        ...


@runtime_checkable
class SupportsReference(Protocol):
    """An algorithm that may sample from the initial weights of its stage."""

    async def take_reference(self, reference: WeightSource) -> None:
        """Receives these weights, which are not trained, before the first step."""
        ...


@runtime_checkable
class SupportsState(Protocol):
    """An algorithm with a state that persists between steps."""

    def state(self) -> Any:
        """State as JSON-compatible values."""
        ...

    def load_state(self, state: Any) -> None:
        """Replaces the state by the result of `state()`.

        Raises:
            UserError: the state comes from an algorithm with other settings.
        """
        ...
