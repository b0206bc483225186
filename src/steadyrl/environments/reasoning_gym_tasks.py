"""Generated tasks of reasoning-gym, with binary rewards and splits that share no questions."""

import asyncio
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.base.isolation import Isolated, IsolationError
from steadyrl.base.text import nearest_or_all
from steadyrl.environments.answer_formats import (
    AnswerFormat,
    format_instruction,
    write_answer,
)
from steadyrl.environments.answer_text import unwrap
from steadyrl.environments.exploitable_datasets import EXPLOITABLE, MEASURED_WITH
from steadyrl.environments.judge_settings import JudgeSettings
from steadyrl.environments.protocol import Episode, Split, Task
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.single_answer import CheckResult, SingleAnswerEpisode
from steadyrl.environments.splits import split_of
from steadyrl.records.message import Message

_DRAWS = 256
_SEEDS = 2**31
_SPLIT_NUMBERS = {split: place for place, split in enumerate(Split)}

ORDERED_BY_HASH = frozenset(
    {
        "codeio",
        "isomorphic_strings",
        "knight_swap",
        "polynomial_multiplication",
        "ransom_note",
        "word_ladder",
    }
)
"""Datasets whose questions depend on the iteration order of string sets."""


class ReasoningGymSettings(EnvironmentSettings, JudgeSettings):
    """Dataset of reasoning-gym, and format of its answers."""

    name: Literal["reasoning_gym"] = "reasoning_gym"

    dataset: str
    """Name of the dataset, for example "chain_sum"."""

    knobs: dict[str, Any] = Field(default_factory=dict)
    """Options of the dataset, for example {"max_terms": 3}."""

    size: int = Field(1000, ge=1)
    """Number of tasks per split. A split starts over after its last task."""

    seed: int = Field(0, ge=0)
    """Seed of the tasks."""

    answer_format: AnswerFormat = AnswerFormat.WHOLE
    """Format in which responses state their answers."""

    instruction: str | None = None
    """Text after each question. None: a request for the answer format."""

    allow_exploitable: bool = False
    """Allow datasets whose scorers reward wrong answers."""

    def make(self) -> "ReasoningGym":
        """The environment."""
        return ReasoningGym(self)


class ReasoningGym:
    """Reward 1 if the dataset's scorer gives the full score, else 0: no partial credit. One turn.

    The text of a question decides its split; questions of another split are redrawn. Scorers run in
    worker processes, since some of them evaluate the answer as Python or algebra.

    Raises:
        UserError: the dataset or a knob is unknown or rejected, or reasoning-gym is not installed.
    """

    def __init__(self, settings: ReasoningGymSettings) -> None:
        require_extra("reasoning_gym", "tasks")
        _check_names(settings.dataset, settings.knobs)
        if not settings.allow_exploitable:
            _check_scorer(settings.dataset)
        self.settings = settings
        self._datasets: dict[int, Any] = {}
        self._dataset(0)
        recipe = partial(make_scorer, settings.dataset, settings.knobs, settings.size)
        self._score = Isolated(recipe, **settings.judge_limits)
        instruction = settings.instruction
        self._instruction = (
            format_instruction(settings.answer_format) if instruction is None else instruction
        )

    def task(self, split: Split, index: int) -> Task:
        """Question number `index` of `split`.

        Raises:
            UserError: the dataset has too few questions for the split.
        """
        index %= self.settings.size
        entry = self._entry(split, index)
        content = f"{entry['question']}\n\n{self._instruction}".strip()
        prompt = Message(role="user", content=content)
        name = f"{self.settings.dataset}/{split}/{index}"
        return Task(id=name, prompt=(prompt,), payload=entry)

    def distinct_tasks(self, split: Split) -> int:
        """Number of questions per split."""
        return self.settings.size

    def start(self, task: Task) -> Episode:
        """Starts an attempt at the question of `task`."""
        return SingleAnswerEpisode(self.settings.answer_format, partial(self._check, task.payload))

    def solution(self, task: Task) -> tuple[str, ...]:
        """The dataset's own answer.

        Raises:
            UserError: it gives none.
        """
        answer = task.payload.get("answer")
        if not isinstance(answer, str) or not answer.strip():
            raise UserError(f"reasoning-gym gives no answer to {task.id}. Leave the task out.")
        return (write_answer(answer, self.settings.answer_format),)

    def close(self) -> None:
        """Stops the worker processes."""
        self._score.close()

    async def _check(self, entry: dict[str, Any], answer: str) -> CheckResult:
        try:
            score, reason = await asyncio.wrap_future(self._score.submit(unwrap(answer), entry))
        except IsolationError as error:
            score, reason = 0.0, f"scoring {error.reason}"
        right = score == 1.0
        return right, "the answer is right" if right else f"the answer is wrong: {reason}"

    def _entry(self, split: Split, index: int) -> dict[str, Any]:
        """First draw for `index` that belongs to `split`.

        Item i of a dataset is generated from seed + i, so draws `size` seeds apart are distinct.
        """
        for draw in range(_DRAWS):
            block = draw * len(Split) + _SPLIT_NUMBERS[split]
            block += self.settings.seed * _DRAWS * len(Split)
            seed = block * self.settings.size % _SEEDS
            dataset = self._dataset(seed)
            with seeded_random(seed + index):
                entry: dict[str, Any] = dataset[index]
            if split_of(entry["question"]) == split:
                return entry
        raise UserError(
            f"reasoning-gym's {self.settings.dataset!r} has too few questions with these knobs "
            f"for a {split} split: none of {_DRAWS} draws belongs to it. Widen the knobs."
        )

    def _dataset(self, seed: int) -> Any:
        if seed not in self._datasets:
            try:
                with seeded_random(seed):
                    self._datasets[seed] = make_dataset(
                        self.settings.dataset, self.settings.knobs, self.settings.size, seed
                    )
            except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise UserError(
                    f"reasoning-gym rejects the knobs {self.settings.knobs} of "
                    f"{self.settings.dataset!r}: {error}. Change them."
                ) from error
        return self._datasets[seed]


def make_dataset(name: str, knobs: Mapping[str, Any], size: int, seed: int) -> Any:
    """The dataset `name` with `size` questions."""
    from reasoning_gym import create_dataset

    return create_dataset(name, **knobs, size=size, seed=seed)


def make_scorer(
    name: str, knobs: Mapping[str, Any], size: int
) -> Callable[[str, dict[str, Any]], tuple[float, str]]:
    """Function (answer, entry) -> (score, reason for a lower score), for the worker process."""
    dataset = make_dataset(name, knobs, size, seed=0)

    def score(answer: str, entry: dict[str, Any]) -> tuple[float, str]:
        try:
            mark = float(dataset.score_answer(answer, entry))
        except Exception as error:  # scorers parse the answer, and fail on it in every way
            return 0.0, f"it cannot be parsed ({type(error).__name__})"
        return mark, "" if mark == 1.0 else f"it earned {mark:.2f} of 1"

    return score


@contextmanager
def seeded_random(seed: int) -> Iterator[None]:
    """Seeds Python's global generator, which some datasets use, and restores it afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _check_names(name: str, knobs: Mapping[str, Any]) -> None:
    """Checks the dataset and its knobs."""
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        hint = nearest_or_all(name, sorted(DATASETS), "It has")
        raise UserError(f"reasoning-gym has no dataset {name!r}. {hint}")
    known = {field.name for field in fields(DATASETS[name][1])} - {"seed", "size"}
    for knob in knobs:
        if knob not in known:
            hint = nearest_or_all(knob, sorted(known), "It has")
            raise UserError(f"reasoning-gym's {name!r} has no knob {knob!r}. {hint}")
    if name in ORDERED_BY_HASH and sys.flags.hash_randomization:
        raise UserError(
            f"reasoning-gym's {name!r} follows the order of Python sets, which changes with each "
            "process: its tasks would not be the same after a restart. "
            "Set the environment variable PYTHONHASHSEED=0."
        )


def _check_scorer(name: str) -> None:
    """Raises a UserError for a dataset whose scorer rewards wrong answers."""
    if name in EXPLOITABLE:
        raise UserError(
            f"The scorer of reasoning-gym's {name!r} rewards wrong answers: {EXPLOITABLE[name]}, "
            f"in version {MEASURED_WITH}. A policy would learn these instead of the task. Choose "
            "another dataset (docs/exploitable_tasks.md), or set environment.allow_exploitable to "
            "true."
        )
