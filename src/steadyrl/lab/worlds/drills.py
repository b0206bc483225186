"""Drills: the common base of cold starts for Experiential RL."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.environments.protocol import Demonstration, Environment, Split, Task
from steadyrl.environments.settings import EnvironmentSettings, TeacherSettings
from steadyrl.lab.worlds.hidden_meanings import teaches_what_is_hidden
from steadyrl.lab.worlds.second_chance import SecondChance
from steadyrl.records.message import Conversation, Message

MakeDrill = Callable[[Task, np.random.Generator], Demonstration]


class DrillSettings(TeacherSettings):
    """Settings of drills and their tasks."""

    environment: EnvironmentSettings
    """The tasks of the drills."""

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Returns where the drills leave out the meaning that `environment` hides.

        Raises:
            ValueError: it is among theirs.
        """
        if teaches_what_is_hidden(self.environment, environment):
            raise ValueError(
                "the cold start's drills include the meaning that the environment hides, so they "
                "teach what the run should discover. In the drills, permute exactly what is fixed "
                "in the environment, and give both the same meaning."
            )


class Drills(ABC):
    """A teacher of drills of several kinds, each on a task whose words have a meaning of its own.

    The tasks are those of `environment`, not those of the run.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._conversation = SecondChance(environment, style=ReflectionStyle.COMPACT)

    def task(self, split: Split, index: int) -> Task:
        """The task of drill number `index`."""
        return self._environment.task(split, index)

    def demonstrate(self, task: Task, generator: np.random.Generator) -> Demonstration:
        """A drill on `task`, of a kind that is drawn by the shares."""
        shares, kinds = zip(*self.kinds(), strict=True)
        drawn = np.searchsorted(np.cumsum(shares), generator.random(), side="right")
        make: MakeDrill = kinds[int(drawn)]
        return make(task, generator)

    @abstractmethod
    def kinds(self) -> Sequence[tuple[float, MakeDrill]]:
        """Shares and kinds. The last kind takes what the others leave."""

    @abstractmethod
    def rulebook(self, task: Task) -> str:
        """The rulebook of `task` in the format of the drills."""


def drill(prompt: Conversation, continuation: Conversation | str) -> Demonstration:
    """A drill whose continuation may be the text of one turn."""
    if isinstance(continuation, str):
        continuation = answer(continuation)
    return Demonstration(prompt=prompt, continuation=continuation)


def answer(text: str) -> Conversation:
    """A continuation of one turn of the model."""
    return (Message(role="assistant", content=text),)
