"""Protocols of environments and teachers: text in; text, reward and feedback out."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from steadyrl.base.text import map_texts, well_formed
from steadyrl.records.message import Conversation, Message

if TYPE_CHECKING:  # which has tensors, and environments load without PyTorch
    from steadyrl.records.trajectory import Group

MAX_REWARD = 1e12
"""Largest magnitude of a reward. Advantages square differences of rewards, and the gradient norm
sums squares of advantages over all weights; below this limit both fit in float32."""


class Split(StrEnum):
    """Disjoint sets of tasks. No instance of one is in another."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One problem instance.

    Example:
        Task(id="sums/train/0", prompt=(Message(role="user", content="3+4="),), payload=7)

    Raises:
        TypeError: the prompt does not consist of messages.
    """

    id: str
    prompt: tuple[Message, ...]
    """Initial messages. A list of messages or a single one is accepted too."""

    payload: Any
    """Data that the environment needs to judge the task. No one else reads it."""

    tools: tuple[dict[str, Any], ...] = ()
    """Schemas of tools that the tokenizer's chat template shows with the prompt."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _messages(self.prompt, "the prompt"))
        if not self.prompt:
            raise TypeError("the prompt is empty. Give at least one Message.")
        object.__setattr__(self, "id", map_texts(self.id, well_formed))
        object.__setattr__(self, "tools", tuple(map_texts(self.tools, well_formed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Reply of an environment to one turn of the model.

    Raises:
        TypeError: the reward is not a number, or the observation does not consist of messages.
        ValueError: the reward is not finite, or exceeds `MAX_REWARD`.
    """

    reward: float
    """Reward of this turn; the reward of an episode is the sum. NumPy and PyTorch scalars are
    accepted."""

    terminated: bool

    observation: tuple[Message, ...] = ()
    """Messages that the model reads before its next turn; empty at the end of the episode. A list
    of messages or a single one is accepted too."""

    feedback: str = ""
    """Description of what happened, for readers and reflections. The next turn does not see it."""

    reward_parts: Mapping[str, float] = field(default_factory=dict)
    """Components of the reward by name. Each is recorded and averaged under its name; only `reward`
    is trained on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", as_reward(self.reward))
        object.__setattr__(self, "terminated", bool(self.terminated))
        object.__setattr__(self, "observation", _messages(self.observation, "the observation"))
        object.__setattr__(self, "feedback", self.feedback or "")
        if not isinstance(self.feedback, str):
            raise TypeError(f"the feedback is {self.feedback!r}. Give a string.")
        object.__setattr__(self, "feedback", well_formed(self.feedback))
        parts = {str(name): as_reward(part) for name, part in dict(self.reward_parts or ()).items()}
        object.__setattr__(self, "reward_parts", parts)


@runtime_checkable
class Episode(Protocol):
    """One attempt at a task, starting from `task.prompt`."""

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """Outcome of the model's next turn, whose text is `text`.

        A plain method or a coroutine function (`async def`). Other episodes continue while one
        awaits.
        """
        ...


@runtime_checkable
class Environment(Protocol):
    """A set of tasks."""

    def task(self, split: Split, index: int) -> Task:
        """Task number `index >= 0` of `split`, always the same."""
        ...

    def start(self, task: Task) -> Episode:
        """Starts an attempt at `task`."""
        ...


@runtime_checkable
class SupportsTaskCount(Protocol):
    """An environment with a known number of tasks."""

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of distinct tasks in `split`; None if there is no limit.

        Training goes through them in an order shuffled by its seed, anew in each pass.
        """
        ...


@runtime_checkable
class SupportsGroupScores(Protocol):
    """An environment whose rewards compare the episodes of a task."""

    def score_group(
        self, group: "Group"
    ) -> "Sequence[float | Outcome | None] | Awaitable[Sequence[float | Outcome | None]]":
        """Rewards of the trajectories in `group`, which replace the rewards of their turns.

        An `Outcome` sets `reward_parts` too. None excludes a trajectory as failed.

        Called when all episodes of the group are over. Episodes in which the environment failed are
        not in the group.
        """
        ...


@runtime_checkable
class SupportsNotes(Protocol):
    """An environment with notes on its data."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences recorded at the start of the run."""
        ...


@runtime_checkable
class SupportsSolutions(Protocol):
    """An environment that knows how its tasks are solved."""

    def solution(self, task: Task) -> tuple[str, ...]:
        """Replies of the model that earn the full reward, one for each turn.

        Raises:
            UserError: none is known for this task.
        """
        ...


@runtime_checkable
class Closable(Protocol):
    """An environment that holds processes, files or connections."""

    def close(self) -> None:
        """Releases them at the end of the run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A conversation to imitate: the assistant turns in `continuation` are trained on.

    Example:
        Demonstration(
            prompt=(Message(role="user", content="3+4="),),
            continuation=(Message(role="assistant", content="7"),),
        )

    Raises:
        TypeError: the continuation has no assistant turn.
    """

    prompt: Conversation
    continuation: Conversation

    def __post_init__(self) -> None:
        if not any(message.role == "assistant" for message in self.continuation):
            raise TypeError("the continuation has no assistant turn. Add at least one.")


@runtime_checkable
class Teacher(Protocol):
    """A source of demonstrations for the cold start."""

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str | Demonstration:
        """Response to `task.prompt`, correct or not.

        A `Demonstration` may have several turns or another prompt.
        """
        ...


@runtime_checkable
class TaskSource(Protocol):
    """An object with tasks: an environment, or a teacher with its own tasks."""

    def task(self, split: Split, index: int) -> Task:
        """Task number `index >= 0` of `split`, always the same."""
        ...


def as_reward(reward: Any) -> float:
    """`reward` as a Python float.

    Raises:
        TypeError: `reward` is not a number.
        ValueError: `reward` is not finite, or exceeds `MAX_REWARD`.
    """
    if isinstance(reward, str | bytes) or not hasattr(reward, "__float__"):
        raise TypeError(f"the reward is {reward!r:.200}. Give a number.")
    try:
        number = float(reward)
    except OverflowError as error:
        raise ValueError(_too_large(f"a {type(reward).__name__} beyond 1e308")) from error
    except Exception as error:
        raise TypeError(f"the reward is {reward!r:.200}. Give a number.") from error
    if not isfinite(number):
        raise ValueError(f"the reward is {number}. Give a finite number.")
    if abs(number) > MAX_REWARD:
        raise ValueError(_too_large(str(number)))
    return number


def _too_large(given: str) -> str:
    return (
        f"the reward is {given}, but the trainer's float32 arithmetic holds rewards up to "
        f"{MAX_REWARD:g}. Scale the rewards of this environment down."
    )


def _messages(given: Any, what: str) -> tuple[Message, ...]:
    if isinstance(given, Message):
        return (given,)
    messages = tuple(given) if isinstance(given, list | tuple) else None
    if messages is None or not all(isinstance(message, Message) for message in messages):
        raise TypeError(
            f"{what} is {given!r:.200}. Give a Message(role=..., content=...) or a list of them."
        )
    return messages
