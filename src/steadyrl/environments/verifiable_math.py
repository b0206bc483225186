"""Math problems from a file, with verifiable answers."""

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.isolation import IsolationError
from steadyrl.environments.answer_formats import (
    AnswerFormat,
    format_instruction,
    write_answer,
)
from steadyrl.environments.math_answers import isolated_agreement
from steadyrl.environments.protocol import Episode, Split, Task
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.single_answer import CheckResult, SingleAnswerEpisode
from steadyrl.environments.splits import split_of
from steadyrl.records.message import Message


class VerifiableMathSettings(EnvironmentSettings):
    """File of math problems, and format of their answers."""

    name: Literal["math"] = "math"

    path: Path
    """JSON Lines file, or JSON file with a list, of objects with the fields "problem" and "answer"
    and optionally "id". Other fields are ignored."""

    answer_format: AnswerFormat = AnswerFormat.BOXED
    """Format in which responses state their answers."""

    instruction: str | None = None
    """Text after each problem. None: a request for the answer format."""

    require_simplified: bool | None = None
    """Whether answers must be simplified: 45 instead of 21 + 24. None: only if the answer is the
    whole response."""

    timeout: float = Field(5.0, gt=0.0)
    """Maximum seconds per comparison. Slower answers count as wrong."""

    judge_workers: int | None = Field(None, ge=1)
    """Number of worker processes that check answers concurrently. None: one per core. Does not
    affect rewards."""

    judge_memory: float = Field(8.0, ge=1.0, allow_inf_nan=False)
    """Maximum memory of a worker process in GiB. Answers that exceed it count as wrong. Linux
    only."""

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
        self._agree = isolated_agreement(
            timeout=settings.timeout,
            workers=settings.judge_workers,
            memory=int(settings.judge_memory * 2**30),
        )
        self._problems: dict[Split, list[Problem]] = {split: [] for split in Split}
        for problem in read_problems(settings.path):
            self._problems[split_of(problem.problem)].append(problem)
        whole = settings.answer_format is AnswerFormat.WHOLE
        self._require_simplified = (
            whole if settings.require_simplified is None else settings.require_simplified
        )
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
                f"No problem of {self.settings.path} falls into the {split} split. "
                "Give a file with more problems: about one in ten goes to validation and to test."
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
        judged = self._agree.submit(task.payload, answer, problem, self._require_simplified)
        try:
            right = await asyncio.wrap_future(judged)
        except IsolationError as error:
            return False, f"the answer could not be checked: it {error.reason}"
        wrong = "the answer is wrong" + ", or not worked out" * self._require_simplified
        return right, "the answer is right" if right else wrong


def read_problems(path: Path) -> list[Problem]:
    """Reads problems from a JSON or JSON Lines file.

    Raises:
        UserError: the file is missing, not JSON, or a row lacks a field; names the row and field.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read the problems in {path} ({error}). Give the path of a UTF-8 JSON file."
        ) from error
    is_list = text.lstrip().startswith("[")
    rows = _list_rows(path, text) if is_list else _line_rows(path, text)
    problems = [
        _problem(row, where, default_id=str(number))
        for number, (where, row) in enumerate(rows, start=1)
    ]
    if not problems:
        raise UserError(f"There are no problems in {path}. Give a file with at least one.")
    return problems


def _list_rows(path: Path, text: str) -> list[tuple[str, Any]]:
    rows = _parse(text, str(path))
    return [(f"entry {number} of {path}", row) for number, row in enumerate(rows, start=1)]


def _line_rows(path: Path, text: str) -> list[tuple[str, Any]]:
    lines = [(f"line {number} of {path}", line) for number, line in enumerate(text.split("\n"), 1)]
    return [(where, _parse(line, where)) for where, line in lines if line.strip()]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str)  # as they are written
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}). Correct or remove it.") from error


def _problem(row: Any, where: str, default_id: str) -> Problem:
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object, got {row!r}. Write {{...}} with the fields.")
    return Problem(
        id=_field(row, "id", where) if "id" in row else default_id,
        problem=_field(row, "problem", where),
        answer=_field(row, "answer", where),
    )


def _field(row: dict[str, Any], field: str, where: str) -> str:
    """Text of a field; numbers keep their spelling."""
    if field not in row:
        raise UserError(
            f"{where} has no field {field!r}, got the fields {sorted(row)}. Add it to that row."
        )
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}: the field {field!r} must be a text or a number, got {value!r}. Correct it."
        )
    return value
