"""Requests in code words: the smallest world in which a correction says what a reward does not.

    request       k A3       the word k, about A3
    answer        o A3       the symbol that k means, about the same
    correction    k=o        what a user writes after another answer
    lesson        ko         what a reflection makes of it, and a second attempt follows

A name such as A3 belongs to the split that `split_of` gives it, so held-out requests are about
other names. A guess is right once in six.
"""

from typing import Any

import numpy as np
from pydantic import Field

from steadyrl.algorithms.reflection_prompts import (
    AttemptRecord,
    ReflectionStyle,
    reflection_prompt,
)
from steadyrl.environments.protocol import (
    Demonstration,
    Environment,
    Episode,
    Outcome,
    Split,
    Task,
)
from steadyrl.environments.settings import EnvironmentSettings, TeacherSettings
from steadyrl.environments.splits import split_of
from steadyrl.lab.worlds.coded_questions import RELATIONS, WORDS
from steadyrl.lab.worlds.drills import answer, drill
from steadyrl.records.message import Message
from steadyrl.rollout.seeds import derive_seed

NAMES = [letter + digit for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for digit in "0123456789"]


class CodeWordSettings(EnvironmentSettings):
    """Requests whose words have one hidden meaning."""

    shift: int = Field(2, ge=0, lt=len(WORDS))
    """The word number n means the symbol number n + shift."""

    def make(self) -> "CodeWords":
        """The requests."""
        return CodeWords(self.shift)

    def meaning(self) -> dict[str, str]:
        """The symbol that each word means."""
        return meaning_of(self.shift)


class CodeWords:
    """Reward 1 for the right symbol and the name of the request, else 0."""

    def __init__(self, shift: int) -> None:
        self._meaning = meaning_of(shift)
        self._names = {s: [name for name in NAMES if split_of(name) is s] for s in Split}

    def task(self, split: Split, index: int) -> Task:
        """Request number `index`."""
        draws = np.random.default_rng(derive_seed(len(NAMES), list(Split).index(split), index))
        word, name = draws.choice(list(WORDS)), draws.choice(self._names[split])
        prompt = Message(role="user", content=f"{word} {name}")
        return Task(id=f"code-words/{split}/{index}", prompt=(prompt,), payload=None)

    def start(self, task: Task) -> Episode:
        """An attempt of one answer."""
        return _OneAnswer(task.prompt[-1].content, self._meaning)


class _OneAnswer:
    def __init__(self, request: str, meaning: dict[str, str]) -> None:
        self._request = request
        self._meaning = meaning

    def respond(self, text: str) -> Outcome:
        return judge(self._request, text, self._meaning)


class CodeDrillSettings(TeacherSettings):
    """Shares of drills, each with a word that means a symbol drawn for it alone."""

    first_attempts: float = Field(0.2, ge=0, le=1)
    """Share of requests without a lesson, which can only be guessed."""

    reflections: float = Field(0.4, ge=0, le=1)
    """Share of reflections. The rest are second attempts."""

    def make(self, environment: Environment) -> "CodeDrills":
        """The drills."""
        return CodeDrills(self)


class CodeDrills:
    """Demonstrations of guessing, of writing lessons and of following them."""

    def __init__(self, settings: CodeDrillSettings) -> None:
        self._settings = settings
        self._requests = CodeWords(0)

    def task(self, split: Split, index: int) -> Task:
        """The request of drill number `index`."""
        return self._requests.task(split, index)

    def demonstrate(self, task: Task, generator: np.random.Generator) -> Demonstration:
        """A drill on `task`."""
        kind, settings = generator.random(), self._settings
        request = task.prompt[-1].content
        word, name = request.split()
        meant, guessed = (str(symbol) for symbol in generator.choice(list(RELATIONS), 2))
        if kind < settings.first_attempts:
            return drill(task.prompt, answer(f"{meant} {name}"))
        if kind < settings.first_attempts + settings.reflections:
            record = AttemptRecord(
                task=request,
                attempt=f"{guessed} {name}",
                feedback=f"{word}={meant}",
                reward=0.0,
                memory="",
            )
            prompt = reflection_prompt(record, ReflectionStyle.COMPACT)
            return drill(prompt, answer(word + meant))
        lesson = Message(role="system", content=word + meant)
        return drill((lesson, *task.prompt), answer(f"{meant} {name}"))


def meaning_of(shift: int) -> dict[str, str]:
    """The symbol that each word means."""
    turned = RELATIONS[shift:] + RELATIONS[:shift]
    return dict(zip(WORDS, turned, strict=True))


def judge(request: str, text: str, meaning: dict[str, str]) -> Outcome:
    """Whether `text` answers `request`; the feedback is a correction."""
    word, name = request.split()
    right = text.strip() == f"{meaning[word]} {name}"
    feedback = "" if right else f"{word}={meaning[word]}"
    return Outcome(reward=float(right), terminated=True, feedback=feedback)


def rule_reward(prompt: Any, given: str, correction: str) -> float:
    """The reward function of a control that knows the hidden meaning."""
    return judge(prompt[-1].content, given, CodeWordSettings().meaning()).reward
