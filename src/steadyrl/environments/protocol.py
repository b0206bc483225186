"""What an environment is: text in; text, reward and feedback out."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np

from steadyrl.records.message import Message


class Split(StrEnum):
    """Disjoint sets of tasks: no instance of one occurs in another."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One problem instance.

    Example:
        Task(id="sums/train/0", prompt=(Message(role="user", content="3+4="),), payload=7)
    """

    id: str
    prompt: tuple[Message, ...]

    payload: Any
    """What the environment needs to judge it. Only the environment that made it reads it."""

    tools: tuple[dict[str, Any], ...] = ()
    """Schemas of the tools that the tokenizer's chat template shows with the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an environment answers one turn of the model."""

    reward: float
    """Earned by this turn; an episode's reward is the sum."""

    terminated: bool

    observation: tuple[Message, ...] = ()
    """What the model reads before its next turn. Empty when the episode is over."""

    feedback: str = ""
    """What happened, in words, for a reader or a reflection. The next turn does not see it."""


@runtime_checkable
class Episode(Protocol):
    """One attempt at a task. It begins with `task.prompt`."""

    def respond(self, text: str) -> Outcome:
        """The outcome of the model's next turn, which wrote `text`."""
        ...


@runtime_checkable
class Environment(Protocol):
    """A family of tasks."""

    def task(self, split: Split, index: int) -> Task:
        """Task number `index >= 0` of `split`: always the same one."""
        ...

    def start(self, task: Task) -> Episode:
        """A fresh attempt at `task`."""
        ...


@runtime_checkable
class Teacher(Protocol):
    """Writes demonstrations to learn from before reinforcement begins."""

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str:
        """A response to `task.prompt`, right or wrong, in the teacher's style."""
        ...
