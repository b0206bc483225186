"""Math problems from a file, with verifiable answers."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from steadyrl.base.errors import UserError
from steadyrl.base.isolation import IsolationError
from steadyrl.environments.answer_formats import (
    AnswerFormat,
    format_instruction,
    write_answer,
)
from steadyrl.environments.dataset.tables import Row, read_json
from steadyrl.environments.math_answers import MathJudgeSettings, isolated_agreement
from steadyrl.environments.protocol import Episode, Split, Task
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.single_answer import CheckResult, SingleAnswerEpisode
from steadyrl.environments.splits import split_of
from steadyrl.records.message import Message


class VerifiableMathSettings(EnvironmentSettings, MathJudgeSettings):
    """File of math problems, and format of their answers."""

    name: Literal["math"] = "math"

    path: Path
    """JSON Lines file, or JSON file with a list, of objects with the fields "problem" and "answer"
    and optionally "id". Other fields are ignored."""

    answer_format: AnswerFormat = AnswerFormat.BOXED
    """Format in which responses state their answers."""

    instruction: str | None = None
    """Text after each problem. None: a request for the answer format."""

    def make(self) -> "VerifiableMath":
        """The environment."""
        return VerifiableMath(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One row of the file.

    Example:
        Problem(id="1", problem="What is 1/4 + 1/4?", answer="1/2")
    """

    id: str
    problem: str
    answer: str


class VerifiableMath:
    """Reward 1 if the answer agrees with the file, else 0. One turn.

    The text of a problem decides its split. A split starts over after its last problem.

    Raises:
        UserError: the file is invalid, or math-verify is not installed.
    """

    def __init__(self, settings: VerifiableMathSettings) -> None:
        self.settings = settings
        self._agree = isolated_agreement(**settings.judge_limits)
        self._problems: dict[Split, list[Problem]] = {split: [] for split in Split}
        for problem in read_problems(settings.path):
            self._problems[split_of(problem.problem)].append(problem)
        self._require_simplified = settings.requires_simplified(settings.answer_format)
        instruction = settings.instruction
        self._instruction = (
            format_instruction(settings.answer_format) if instruction is None else instruction
        )

    def task(self, split: Split, index: int) -> Task:
        """Problem number `index` of `split`.

        Raises:
            UserError: the file has no problem in this split.
        """
        problems = self._problems[split]
        if not problems:
            raise UserError(
                f"No problem of {self.settings.path} is in the {split} split. Use a file with "
                "more problems: about a tenth each is used for validation and testing."
            )
        problem = problems[index % len(problems)]
        content = f"{problem.problem}\n\n{self._instruction}".strip()
        prompt = Message(role="user", content=content)
        return Task(id=f"math/{problem.id}", prompt=(prompt,), payload=problem.answer)

    def distinct_tasks(self, split: Split) -> int:
        """Number of problems in `split`."""
        return len(self._problems[split])

    def start(self, task: Task) -> Episode:
        """Starts an attempt at the problem of `task`."""
        return SingleAnswerEpisode(self.settings.answer_format, partial(self._check, task))

    def solution(self, task: Task) -> tuple[str, ...]:
        """The answer in the file."""
        return (write_answer(task.payload, self.settings.answer_format),)

    def close(self) -> None:
        """Stops the worker processes."""
        self._agree.close()

    async def _check(self, task: Task, answer: str) -> CheckResult:
        problem = task.prompt[-1].content
        future = self._agree.submit(task.payload, answer, problem, self._require_simplified)
        try:
            right = await asyncio.wrap_future(future)
        except IsolationError as error:
            return False, f"the answer could not be checked: it {error.reason}"
        wrong = "the answer is wrong" + ", or not simplified" * self._require_simplified
        return right, "the answer is right" if right else wrong


def read_problems(path: Path) -> list[Problem]:
    """Reads problems from a JSON or JSON Lines file.

    Raises:
        UserError: the file is missing, not JSON, or a row lacks a field; names the row and field.
    """
    table = read_json(path, verbatim=True)
    if not table.rows:
        raise UserError(f"There are no problems in {path}. Give a file with at least one.")
    rows = [(row, table.where(index)) for index, row in enumerate(table.rows)]
    return [
        Problem(
            id=_field(row, "id", where) if "id" in row else str(number),
            problem=_field(row, "problem", where),
            answer=_field(row, "answer", where),
        )
        for number, (row, where) in enumerate(rows, start=1)
    ]


def _field(row: Row, field: str, where: str) -> str:
    """Text of a field; numbers keep their spelling."""
    if field not in row:
        raise UserError(
            f"{where} has no field {field!r}, got the fields {sorted(row)}. Add it to that row."
        )
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}: the field {field!r} must be a string or a number, got {value!r}. Correct it."
        )
    return value
