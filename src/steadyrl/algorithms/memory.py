"""Memories of reflections that led to successful second attempts.

A reflection sees the memory from before its step; writes of a step are applied in the order of
tasks and episodes. The memory is therefore a function of the previous steps, whatever finished
first.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Field, model_validator

from steadyrl.base.errors import UserError
from steadyrl.base.variants import Variant, Variants
from steadyrl.environments.protocol import Task
from steadyrl.records.memory_write import MemoryWrite


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEntry:
    """A stored text and its slot.

    Example:
        MemoryEntry(slot=0, text="@A GB HC FD")
    """

    slot: int
    text: str


@runtime_checkable
class Memory(Protocol):
    """Stores texts that led to success."""

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """Entries that may help with `task` in episode number `episode` of the run, best first.

        Nothing where nothing does.
        """
        ...

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Stores `text`; returns the write, or None if nothing is stored."""
        ...

    def state(self) -> Any:
        """Content as JSON-compatible values."""
        ...

    def load_state(self, state: Any) -> None:
        """Replaces the content by the result of `state()`.

        Raises:
            UserError: the state comes from a memory with other settings.
        """
        ...


class MemorySettings(Variant):
    """Base class of memory settings."""

    @abstractmethod
    def make(self) -> Memory:
        """An empty memory."""


class NoMemory(MemorySettings):
    """No memory: reflections are used once."""

    name: Literal["none"] = "none"

    def make(self) -> "EmptyMemory":
        """A memory that stays empty."""
        return EmptyMemory()


class SingleSlot(MemorySettings):
    """The last successful reflection, overwritten by the next."""

    name: Literal["single_slot"] = "single_slot"

    workers: int = Field(1, ge=1)
    """Number of slots, used by episodes in turn. The paper's algorithm 2 has 1; its released code
    has 1024 for grid games and 256 for HotpotQA, of which a step of 64 x 4 episodes uses 256."""

    def make(self) -> "SlotMemory":
        """Empty slots."""
        return SlotMemory(self.workers)


class Retrieval(MemorySettings):
    """Successful reflections on the tasks most similar to the current one."""

    name: Literal["retrieval"] = "retrieval"

    capacity: int = Field(50, ge=1)
    """Maximum number of stored reflections. The oldest is replaced."""

    recalled: int = Field(3, ge=1)
    """Maximum number of reflections shown, best first."""

    @model_validator(mode="after")
    def _check_capacity(self) -> "Retrieval":
        if self.recalled > self.capacity:
            raise ValueError(
                f"recalled is {self.recalled}, but capacity is {self.capacity}. Lower recalled, "
                "or raise capacity."
            )
        return self

    def make(self) -> "RetrievalMemory":
        """An empty memory."""
        return RetrievalMemory(self.capacity, self.recalled)


AnyMemory = Annotated[
    MemorySettings, Variants(MemorySettings, "steadyrl.memories", NoMemory, SingleSlot, Retrieval)
]
"""Settings of any memory."""


class EmptyMemory:
    """Stores nothing."""

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """No entries."""
        return ()

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Stores nothing."""
        return None

    def state(self) -> Any:
        """Marker of an empty memory."""
        return {"memory": "none"}

    def load_state(self, state: Any) -> None:
        """Checks the marker."""
        _require(state, memory="none")


class SlotMemory:
    """One text per slot. Episodes use the slots in turn, and a write replaces the text."""

    def __init__(self, workers: int) -> None:
        self._texts = [""] * workers

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """The text in the slot of this episode, if there is one."""
        slot = self._slot(episode)
        text = self._texts[slot]
        return (MemoryEntry(slot=slot, text=text),) if text else ()

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Replaces the text in the slot of this episode."""
        slot = self._slot(episode)
        self._texts[slot] = text
        return MemoryWrite(slot=slot, task_id=task.id, text=text)

    def state(self) -> Any:
        """Texts of all slots."""
        return {"memory": "slots", "size": len(self._texts), "texts": list(self._texts)}

    def load_state(self, state: Any) -> None:
        """Restores the texts of all slots."""
        _require(state, memory="slots", size=len(self._texts))
        self._texts = list(state["texts"])

    def _slot(self, episode: int) -> int:
        return episode % len(self._texts)


class RetrievalMemory:
    """The last `capacity` texts, with the tasks that they solved.

    Similarity of two tasks: number of common runs of one to three words, divided by the number in
    either. Instructions in system messages are not compared.
    """

    def __init__(self, capacity: int, recalled: int) -> None:
        self._capacity = capacity
        self._recalled = recalled
        self._writes = 0
        self._entries: list[tuple[str, str]] = []

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """Texts of the tasks most similar to `task`, best first; ties prefer the newest."""
        runs = _runs(prompt_text(task))
        newest_first = sorted(range(len(self._entries)), key=self._age)
        scored = [(_overlap(runs, _runs(self._entries[n][0])), n) for n in newest_first]
        best = sorted([pair for pair in scored if pair[0] > 0], key=lambda pair: -pair[0])
        return tuple(
            [MemoryEntry(slot=n, text=self._entries[n][1]) for _, n in best[: self._recalled]]
        )

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Stores `text`, replacing the oldest once the memory is full."""
        slot = self._writes % self._capacity
        self._entries[slot : slot + 1] = [(prompt_text(task), text)]
        self._writes += 1
        return MemoryWrite(slot=slot, task_id=task.id, text=text)

    def state(self) -> Any:
        """All texts with their tasks, and the number of writes."""
        return {
            "memory": "library",
            "size": self._capacity,
            "writes": self._writes,
            "entries": [list(entry) for entry in self._entries],
        }

    def load_state(self, state: Any) -> None:
        """Restores all texts."""
        _require(state, memory="library", size=self._capacity)
        self._writes = state["writes"]
        self._entries = [(task, text) for task, text in state["entries"]]

    def _age(self, slot: int) -> int:
        """Number of writes since the one to `slot`."""
        return (self._writes - 1 - slot) % self._capacity


def join_entries(entries: Sequence[MemoryEntry]) -> str:
    """The entries as one text."""
    return "\n\n".join([entry.text for entry in entries])


def prompt_text(task: Task) -> str:
    """Prompt of `task` as one text, without system messages unless there are no others."""
    asked = [message for message in task.prompt if message.role != "system"]
    return "\n".join([message.content for message in asked or task.prompt])


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of one to three words, so that boards with equal letters differ by their rows."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(
        tuple(words[i : i + size]) for size in (1, 2, 3) for i in range(len(words) - size + 1)
    )


def _overlap(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / max(1, len(one | other))


def _require(state: Any, **expected: object) -> None:
    got = {name: state.get(name) for name in expected} if isinstance(state, dict) else state
    if got != expected:
        raise UserError(
            f"The saved memory is {got}, but the configuration describes {expected}. Resume the "
            "run with its original configuration."
        )
