"""The generated tasks of reasoning-gym, with a binary reward and splits that share no question."""

import asyncio
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.base.isolation import Isolated, IsolationError
from steadyrl.environments.answer_formats import AnswerFormat, format_instruction
from steadyrl.environments.answer_text import unwrap
from steadyrl.environments.exploitable_datasets import EXPLOITABLE, MEASURED_WITH
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
"""Datasets whose questions follow the order of Python sets of texts."""


class ReasoningGymSettings(EnvironmentSettings):
    """Which dataset of reasoning-gym, and how an answer is written."""

    name: Literal["reasoning_gym"] = "reasoning_gym"

    dataset: str
    """Name of the dataset, such as "chain_sum"."""

    knobs: dict[str, Any] = Field(default_factory=dict)
    """Its own options, such as {"max_terms": 3}."""

    size: int = Field(1000, ge=1)
    """Tasks in each split; a split starts over after them."""

    seed: int = Field(0, ge=0)
    """Other seeds give other tasks."""

    answer_format: AnswerFormat = AnswerFormat.WHOLE
    """Where the answer stands in a response."""

    instruction: str | None = None
    """Said after each question. None: what the answer format asks for."""

    allow_exploitable: bool = False
    """Train on a dataset although its scorer pays for answers that are not right."""

    timeout: float = Field(5.0, gt=0.0)
    """Seconds after which scoring is given up and the answer counts as wrong."""

    judge_workers: int | None = Field(None, ge=1)
    """Answers that are judged at the same time, each in a process of its own. None: one for each
    core. Rewards do not depend on it."""

    judge_memory: float = Field(8.0, ge=1.0, allow_inf_nan=False)
    """GiB of memory in which an answer must be judged, or it counts as wrong. Linux only."""

    def make(self) -> "ReasoningGym":
        """The environment."""
        return ReasoningGym(self)


class ReasoningGym:
    """Reward 1 when the dataset's scorer gives its full mark, else 0: no partial credit. One turn.

    The text of a question decides its split; a draw that another split owns is drawn again.
    Scorers run in a worker process, for some of them evaluate the answer as Python or algebra.

    Raises:
        UserError: the dataset or a knob is unknown or refused, or reasoning-gym is not installed.
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
        self._score = Isolated(
            recipe,
            timeout=settings.timeout,
            workers=settings.judge_workers,
            memory=int(settings.judge_memory * 2**30),
        )
        instruction = settings.instruction
        self._instruction = (
            format_instruction(settings.answer_format) if instruction is None else instruction
        )

    def task(self, split: Split, index: int) -> Task:
        """Question number `index` of `split`.

        Raises:
            UserError: none of many draws belongs to the split; the dataset has too few questions.
        """
        index %= self.settings.size
        entry = self._entry(split, index)
        content = f"{entry['question']}\n\n{self._instruction}".strip()
        prompt = Message(role="user", content=content)
        name = f"{self.settings.dataset}/{split}/{index}"
        return Task(id=name, prompt=(prompt,), payload=entry)

    def distinct_tasks(self, split: Split) -> int:
        """Questions of each split."""
        return self.settings.size

    def start(self, task: Task) -> Episode:
        """A fresh attempt at the question of `task`."""
        return SingleAnswerEpisode(self.settings.answer_format, partial(self._check, task.payload))

    def close(self) -> None:
        """Ends the worker processes."""
        self._score.close()

    async def _check(self, entry: dict[str, Any], answer: str) -> CheckResult:
        try:
            score, reason = await asyncio.wrap_future(self._score.submit(unwrap(answer), entry))
        except IsolationError as error:
            score, reason = 0.0, f"scoring {error.reason}"
        right = score == 1.0
        return right, "the answer is right" if right else f"the answer is wrong: {reason}"

    def _entry(self, split: Split, index: int) -> dict[str, Any]:
        """The first draw for `index` that `split` owns.

        Item i of a dataset is made from its seed + i, so that draws `size` seeds apart are new.
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
                    f"reasoning-gym refuses the knobs {self.settings.knobs} of "
                    f"{self.settings.dataset!r}: {error}. Change them."
                ) from error
        return self._datasets[seed]


def make_dataset(name: str, knobs: Mapping[str, Any], size: int, seed: int) -> Any:
    """The dataset `name` of `size` questions."""
    from reasoning_gym import create_dataset

    return create_dataset(name, **knobs, size=size, seed=seed)


def make_scorer(
    name: str, knobs: Mapping[str, Any], size: int
) -> Callable[[str, dict[str, Any]], tuple[float, str]]:
    """The function (answer, entry) -> score and what spoke against it. For the worker process."""
    dataset = make_dataset(name, knobs, size, seed=0)

    def score(answer: str, entry: dict[str, Any]) -> tuple[float, str]:
        try:
            mark = float(dataset.score_answer(answer, entry))
        except Exception as error:  # scorers parse the answer, and fail on it in every way
            return 0.0, f"it cannot be read ({type(error).__name__})"
        return mark, "" if mark == 1.0 else f"it earned {mark:.2f} of 1"

    return score


@contextmanager
def seeded_random(seed: int) -> Iterator[None]:
    """Some generators draw from Python's global generator: seeded within, restored after."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _check_names(name: str, knobs: Mapping[str, Any]) -> None:
    """Raises UserError for what reasoning-gym does not know or cannot repeat."""
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        raise UserError(
            f"reasoning-gym has no dataset {name!r}. {_nearest(name, DATASETS, 'its datasets')}"
        )
    known = {field.name for field in fields(DATASETS[name][1])} - {"seed", "size"}
    for knob in knobs:
        if knob not in known:
            raise UserError(
                f"reasoning-gym's {name!r} has no knob {knob!r}. {_nearest(knob, known, 'it has')}"
            )
    if name in ORDERED_BY_HASH and sys.flags.hash_randomization:
        raise UserError(
            f"reasoning-gym's {name!r} follows the order of Python sets, which changes with each "
            "process: its tasks would not be the same after a restart. "
            "Set the environment variable PYTHONHASHSEED=0."
        )


def _check_scorer(name: str) -> None:
    """Raises UserError for a dataset that pays what is not right."""
    if name in EXPLOITABLE:
        raise UserError(
            f"The scorer of reasoning-gym's {name!r} pays for answers that are not right: "
            f"{EXPLOITABLE[name]}, in version {MEASURED_WITH}. A policy would learn them in the "
            "place of the task. Choose another dataset (docs/exploitable_tasks.md), or set "
            "environment.allow_exploitable to true."
        )


def _nearest(name: str, known: Mapping[str, Any] | set[str], others: str) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"Choose one; {others}: {', '.join(sorted(known))}."
