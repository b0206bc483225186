"""Reward for JSON that matches a schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Example, InvalidRowError
from steadyrl.environments.dataset.rewards import Attempt, RewardResult, RewardSettings, TextReward

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class JSONSchemaReward(RewardSettings):
    """1 if the answer is JSON that matches a JSON Schema, else 0.

    The answer is JSON only, or contains one block of it between lines of three backticks.
    """

    name: Literal["json_schema"] = "json_schema"

    accepts: dict[str, Any] | None = None
    """The schema."""

    file: Path | None = None
    """JSON file with the schema."""

    column: str | None = None
    """Dataset column with the schema of each row, as an object or as text."""

    @model_validator(mode="after")
    def _has_one_schema(self) -> "JSONSchemaReward":
        given = [name for name in ("accepts", "file", "column") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the reward 'json_schema' has {' and '.join(given) or 'no schema'}. Set one of "
                "accepts, file and column."
            )
        return self

    @property
    def reads_answer(self) -> bool:
        """False."""
        return False

    def make(self, answer_format: AnswerFormat) -> "_Schema":
        """The reward.

        Raises:
            UserError: jsonschema is not installed, or the schema is missing or invalid.
        """
        require_extra("jsonschema", "data")
        return _Schema(self)


class _Schema(TextReward):
    def __init__(self, settings: JSONSchemaReward) -> None:
        super().__init__(self._mark)
        self._column = settings.column
        self._common: Any = None
        if settings.column is None:
            where = "environment.rewards.json_schema.accepts" if settings.file is None else ""
            given = settings.accepts if settings.file is None else _read(settings.file)
            try:
                self._common = make_validator(given)
            except ValueError as error:
                raise UserError(f"{where or settings.file} {error}. Correct it.") from error

    def check(self, example: Example) -> None:
        """Checks that the example has a valid schema."""
        self._validator(example)

    def _validator(self, example: Example) -> Any:
        if self._column is None:
            return self._common
        value = example.columns.get(self._column)
        try:
            return make_validator(json.loads(value) if isinstance(value, str) else value)
        except (ValueError, RecursionError) as error:
            raise InvalidRowError(f"the column {self._column!r} {error}") from error

    def _mark(self, attempt: Attempt) -> RewardResult:
        try:
            instance = parse_json(attempt.answer or "")
        except (ValueError, RecursionError) as error:
            return RewardResult(value=0.0, reason=f"the answer is not JSON ({error})")
        failure = next(self._validator(attempt.example).iter_errors(instance), None)
        if failure is None:
            return RewardResult(value=1.0, reason="the answer matches the schema")
        return RewardResult(
            value=0.0, reason=f"the answer violates the schema at {failure.json_path}"
        )


def make_validator(schema: Any) -> Any:
    """Validator for `schema`, in the draft that it names or the latest one.

    Raises:
        ValueError: the schema is invalid, or refers to another one, which is never loaded.
    """
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    if not isinstance(schema, dict):
        raise ValueError(f"is {schema!r:.100}, not an object with a JSON Schema")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"is not a valid JSON Schema: {error.message:.200}") from error
    if elsewhere := [ref for ref in _references(schema) if not ref.startswith("#")]:
        raise ValueError(f"refers to {elsewhere[0]!r}, which has to be under its own $defs")
    return kind(schema, registry=Registry())


def _references(schema: Any) -> Iterator[str]:
    """All references in a schema."""
    match schema:
        case {"$ref": str(reference)}:
            yield reference
    parts = schema.values() if isinstance(schema, dict) else schema
    for part in parts if isinstance(schema, dict | list) else ():
        yield from _references(part)


def parse_json(answer: str) -> Any:
    """Value of `answer`, or of its only block between lines of backticks.

    Raises:
        ValueError: it is not JSON, or has several blocks. NaN and infinities are not JSON.
    """
    blocks = _FENCED.findall(answer)
    if len(blocks) > 1:
        raise ValueError(f"{len(blocks)} blocks")
    return json.loads(blocks[0] if blocks else answer, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"Cannot read the JSON Schema in {path} ({error}). Give the path of a JSON file."
        ) from error
