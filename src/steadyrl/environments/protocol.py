"""What an environment is: text in; text, reward and feedback out."""

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
"""The largest magnitude of a reward. Advantages square differences of rewards and the norm of the
gradient sums squares of theirs over all weights: these fit in float32 below it, with room."""


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

    Raises:
        TypeError: the prompt does not consist of messages.
    """

    id: str
    prompt: tuple[Message, ...]
    """What the model reads first: messages. A list of them or a single one is taken as well."""

    payload: Any
    """What the environment needs to judge it. Only the environment that made it reads it."""

    tools: tuple[dict[str, Any], ...] = ()
    """Schemas of the tools that the tokenizer's chat template shows with the prompt."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", _messages(self.prompt, "the prompt"))
        if not self.prompt:
            raise TypeError("the prompt is empty. Give at least one Message.")
        object.__setattr__(self, "id", map_texts(self.id, well_formed))
        object.__setattr__(self, "tools", tuple(map_texts(self.tools, well_formed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an environment answers one turn of the model.

    Raises:
        TypeError: the reward is no number, or the observation does not consist of messages.
        ValueError: the reward is not finite, or larger than `MAX_REWARD`.
    """

    reward: float
    """Earned by this turn; an episode's reward is the sum. A scalar of NumPy or PyTorch will do."""

    terminated: bool

    observation: tuple[Message, ...] = ()
    """What the model reads before its next turn; empty when the episode is over. A list of messages
    or a single one is taken as well."""

    feedback: str = ""
    """What happened, in words, for a reader or a reflection. The next turn does not see it."""

    reward_parts: Mapping[str, float] = field(default_factory=dict)
    """What the reward is made of, by name. Each part is recorded and averaged under its name; only
    `reward` is learned from."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", as_reward(self.reward))
        object.__setattr__(self, "terminated", bool(self.terminated))
        object.__setattr__(self, "observation", _messages(self.observation, "the observation"))
        object.__setattr__(self, "feedback", self.feedback or "")
        if not isinstance(self.feedback, str):
            raise TypeError(f"the feedback is {self.feedback!r}. Give a text.")
        object.__setattr__(self, "feedback", well_formed(self.feedback))
        parts = {str(name): as_reward(part) for name, part in dict(self.reward_parts or ()).items()}
        object.__setattr__(self, "reward_parts", parts)


@runtime_checkable
class Episode(Protocol):
    """One attempt at a task. It begins with `task.prompt`."""

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """The outcome of the model's next turn, which wrote `text`.

        A plain method or a coroutine function (`async def`): while one episode awaits, the others
        go on.
        """
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
class SupportsTaskCount(Protocol):
    """An environment that knows how many tasks it has."""

    def distinct_tasks(self, split: Split) -> int | None:
        """Tasks of `split` before it starts over; None where there is no such number.

        Training asks for them in an order drawn from its seed, and in a new one after the last.
        """
        ...


@runtime_checkable
class SupportsGroupScores(Protocol):
    """An environment whose rewards compare the episodes of a task with each other."""

    def score_group(
        self, group: "Group"
    ) -> "Sequence[float | Outcome | None] | Awaitable[Sequence[float | Outcome | None]]":
        """The reward of each trajectory of `group`, in the place of what its turns earned.

        An outcome gives `reward_parts` besides. None leaves the trajectory out, as one in which the
        environment failed.

        Called once all episodes of the group are over. The group has those that were played:
        episodes in which the environment failed are left out.
        """
        ...


@runtime_checkable
class SupportsNotes(Protocol):
    """An environment that has something to say about its data."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the run notes when it begins."""
        ...


@runtime_checkable
class Closable(Protocol):
    """An environment that holds processes, files or connections."""

    def close(self) -> None:
        """Lets them go, at the end of the run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A conversation to learn from: the assistant's turns in `continuation` are imitated.

    Example:
        Demonstration(
            prompt=(Message(role="user", content="3+4="),),
            continuation=(Message(role="assistant", content="7"),),
        )

    Raises:
        TypeError: the assistant says nothing in the continuation.
    """

    prompt: Conversation
    continuation: Conversation

    def __post_init__(self) -> None:
        if not any(message.role == "assistant" for message in self.continuation):
            raise TypeError("the continuation has no turn of the assistant. Give at least one.")


@runtime_checkable
class Teacher(Protocol):
    """Writes demonstrations to learn from before reinforcement begins."""

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str | Demonstration:
        """A response to `task.prompt`, right or wrong, in the teacher's style; or a conversation
        of several turns, or under another prompt.
        """
        ...


@runtime_checkable
class TaskSource(Protocol):
    """What has tasks: an environment, or a teacher that demonstrates on tasks of its own."""

    def task(self, split: Split, index: int) -> Task:
        """Task number `index >= 0` of `split`: always the same one."""
        ...


def as_reward(reward: Any) -> float:
    """`reward` as a Python number, which JSON, means and float32 arithmetic can hold.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not finite, or larger than `MAX_REWARD`.
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
