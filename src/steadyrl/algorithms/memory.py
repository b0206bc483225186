"""Memories of reflections: what is written when a second attempt succeeds, and recalled later.

A reflection sees the memory as it was when its step began; what the step writes is written in the
order of tasks and episodes. So a memory is a function of the steps before, whatever ran first.
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
    """A text that was remembered, and where it is kept.

    Example:
        MemoryEntry(slot=0, text="@A GB HC FD")
    """

    slot: int
    text: str


@runtime_checkable
class Memory(Protocol):
    """Keeps texts that proved themselves."""

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """What is known that helps with `task` in the run's episode number `episode`, best first.

        Nothing where nothing does.
        """
        ...

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Keeps `text`; says where, or None when nothing is kept."""
        ...

    def state(self) -> Any:
        """All that is kept, as values that JSON can hold."""
        ...

    def load_state(self, state: Any) -> None:
        """Keeps what `state()` gave, and nothing else.

        Raises:
            UserError: a memory with other settings gave it.
        """
        ...


class MemorySettings(Variant):
    """Which reflections that worked are kept, and which of them are shown."""

    @abstractmethod
    def make(self) -> Memory:
        """The memory, empty."""


class NoMemory(MemorySettings):
    """Reflections are made and used, and forgotten."""

    name: Literal["none"] = "none"

    def make(self) -> "EmptyMemory":
        """A memory that stays empty."""
        return EmptyMemory()


class SingleSlot(MemorySettings):
    """The last reflection that worked, which the next one overwrites."""

    name: Literal["single_slot"] = "single_slot"

    workers: int = Field(1, ge=1)
    """Number of slots, used by episodes in turn. The paper's algorithm 2 has 1; its released code
    has 1024 for grid games and 256 for HotpotQA, of which a step of 64 x 4 episodes uses 256."""

    def make(self) -> "SlotMemory":
        """Empty slots."""
        return SlotMemory(self.workers)


class Retrieval(MemorySettings):
    """The reflections that worked on tasks most like the one at hand."""

    name: Literal["retrieval"] = "retrieval"

    capacity: int = Field(50, ge=1)
    """Reflections that are kept. The oldest makes room."""

    recalled: int = Field(3, ge=1)
    """Reflections that are shown, best first."""

    @model_validator(mode="after")
    def _check_capacity(self) -> "Retrieval":
        if self.recalled > self.capacity:
            raise ValueError(
                f"recalled is {self.recalled}, but {self.capacity} reflections are kept. Lower "
                "recalled, or raise capacity."
            )
        return self

    def make(self) -> "RetrievalMemory":
        """An empty library."""
        return RetrievalMemory(self.capacity, self.recalled)


AnyMemory = Annotated[
    MemorySettings, Variants(MemorySettings, "steadyrl.memories", NoMemory, SingleSlot, Retrieval)
]


class EmptyMemory:
    """Keeps nothing."""

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """Nothing."""
        return ()

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """None: nothing is kept."""
        return None

    def state(self) -> Any:
        """That nothing is kept."""
        return {"memory": "none"}

    def load_state(self, state: Any) -> None:
        """Nothing to load."""
        _require(state, memory="none")


class SlotMemory:
    """One text for each of `workers`, which take episodes in turn. A write replaces it."""

    def __init__(self, workers: int) -> None:
        self._texts = [""] * workers

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """The text of the worker whose turn it is, once there is one."""
        slot = self._slot(episode)
        text = self._texts[slot]
        return (MemoryEntry(slot=slot, text=text),) if text else ()

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Replaces that worker's text."""
        slot = self._slot(episode)
        self._texts[slot] = text
        return MemoryWrite(slot=slot, task_id=task.id, text=text)

    def state(self) -> Any:
        """Every worker's text."""
        return {"memory": "slots", "size": len(self._texts), "texts": list(self._texts)}

    def load_state(self, state: Any) -> None:
        """Takes over every worker's text."""
        _require(state, memory="slots", size=len(self._texts))
        self._texts = list(state["texts"])

    def _slot(self, episode: int) -> int:
        return episode % len(self._texts)


class RetrievalMemory:
    """The last `capacity` texts, each under the task it proved itself on.

    Two tasks are as alike as what is asked in them: runs of one to three words in common / runs in
    either. Instructions, which stand in system messages, are not compared.
    """

    def __init__(self, capacity: int, recalled: int) -> None:
        self._capacity = capacity
        self._recalled = recalled
        self._writes = 0
        self._entries: list[tuple[str, str]] = []

    def recall(self, task: Task, episode: int) -> tuple[MemoryEntry, ...]:
        """The texts of the tasks most like `task`, best first; of equals the newest."""
        runs = _runs(prompt_text(task))
        newest_first = sorted(range(len(self._entries)), key=self._age)
        scored = [(_overlap(runs, _runs(self._entries[n][0])), n) for n in newest_first]
        best = sorted([pair for pair in scored if pair[0] > 0], key=lambda pair: -pair[0])
        return tuple(
            [MemoryEntry(slot=n, text=self._entries[n][1]) for _, n in best[: self._recalled]]
        )

    def write(self, task: Task, episode: int, text: str) -> MemoryWrite | None:
        """Keeps `text` in the place of the oldest, once the library is full."""
        slot = self._writes % self._capacity
        self._entries[slot : slot + 1] = [(prompt_text(task), text)]
        self._writes += 1
        return MemoryWrite(slot=slot, task_id=task.id, text=text)

    def state(self) -> Any:
        """Every text with its task, and how many were written."""
        return {
            "memory": "library",
            "size": self._capacity,
            "writes": self._writes,
            "entries": [list(entry) for entry in self._entries],
        }

    def load_state(self, state: Any) -> None:
        """Takes over every text."""
        _require(state, memory="library", size=self._capacity)
        self._writes = state["writes"]
        self._entries = [(task, text) for task, text in state["entries"]]

    def _age(self, slot: int) -> int:
        """Writes since that of `slot`."""
        return (self._writes - 1 - slot) % self._capacity


def join_entries(entries: Sequence[MemoryEntry]) -> str:
    """What is recalled, as one text."""
    return "\n\n".join([entry.text for entry in entries])


def prompt_text(task: Task) -> str:
    """What `task` asks, as one text, without instructions if something else is there."""
    asked = [message for message in task.prompt if message.role != "system"]
    return "\n".join([message.content for message in asked or task.prompt])


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of one to three words in a row: boards of equal letters differ in their rows."""
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
            f"The saved memory is {got}, but the configuration describes {expected}. Resume a run "
            "with the configuration it began with."
        )
