"""Conversion of dataset rows to prompts and answers."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from string import Formatter, ascii_uppercase
from typing import Any

from steadyrl.base.settings import Settings
from steadyrl.environments.dataset.tables import Row
from steadyrl.records.message import Message

_MESSAGES_AS_TEXT = re.compile(
    r"""\s*(?:array\()?\[\s*\{\s*['"](?:role['"]\s*:\s*['"](?:system|user|assistant|tool)['"]"""
    r"""|content['"]\s*:.*['"]role['"]\s*:)""",
    re.DOTALL,
)
"""A list of messages as JSON, or as Python or NumPy print it."""


class Columns(Settings):
    """Names of the dataset columns.

    A dot leads into a column of objects: `reward_model.ground_truth`.
    """

    prompt: str = "prompt"
    """Column of the prompt: text, or a list of messages with `role` and `content`."""

    answer: str = "answer"
    """Column of the correct answer: text or a number. May be missing if no reward reads it."""


class InvalidRowError(ValueError):
    """A row that cannot become a task. The message is the reason, without a period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A dataset row as a task.

    Example:
        Example(id="train/1", text="1+1", prompt=(Message(role="user", content="1+1"),), answer="2",
                columns={"prompt": "1+1", "answer": "2"}, conversational=False)
    """

    id: str

    text: str
    """The prompt as in the dataset. Rows with equal texts are in the same split."""

    prompt: tuple[Message, ...]
    """The prompt with system prompt and instruction."""

    answer: str | None
    """The correct answer; None if no reward reads it."""

    columns: Mapping[str, Any]
    """All columns of the row, plus the correct answer as `answer` if no column has that name."""

    conversational: bool
    """Whether the prompt was given as messages."""

    gold: str | None = None
    """The correct answer, whether or not a reward reads it; None if the row has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """Converts rows to examples.

    Example:
        RowReader(columns=Columns(prompt="question"), template=None, system=None, request="",
                  answer_pattern=None, reads_answer=True)
    """

    columns: Columns
    template: str | None
    system: str | None
    request: str
    """Text after each prompt."""

    answer_pattern: str | None
    reads_answer: bool

    def example(self, row: Row, location: str) -> Example:
        """Converts a row to an example.

        Args:
            location: Location of the row.

        Raises:
            InvalidRowError: the prompt or the answer is invalid.
        """
        messages, conversational = self._prompt_messages(row)
        answer = self._answer(row) if self.reads_answer else None
        return Example(
            id=location,
            text=_join_messages(messages),
            prompt=self._add_context(messages),
            answer=answer,
            columns=self._with_answer(row, answer),
            conversational=conversational or self.system is not None,
            gold=answer if answer is not None else self._gold(row),
        )

    @property
    def required(self) -> list[str]:
        """Names of the required columns."""
        names = [self.columns.prompt] if self.template is None else template_fields(self.template)
        return names + ([self.columns.answer] if self.reads_answer else [])

    def _prompt_messages(self, row: Row) -> tuple[tuple[Message, ...], bool]:
        """The prompt as messages, and whether the row has messages."""
        if self.template is not None:
            return (Message(role="user", content=fill_template(self.template, row)),), False
        name = self.columns.prompt
        value = _lookup(row, name)
        if isinstance(value, str):
            content = as_text(value, f"the column {name!r}")
            if _MESSAGES_AS_TEXT.match(content):
                raise InvalidRowError(
                    f"the column {name!r} is a list of messages written as text, {content!r:.100}; "
                    "save it as a list, in JSON Lines or Parquet"
                )
            return (Message(role="user", content=content),), False
        if isinstance(value, Sequence) and value:
            return tuple([_message(entry, name) for entry in value]), True
        raise InvalidRowError(
            f"the column {name!r} is {value!r:.100}, not text or a list of messages with role and "
            "content"
        )

    def _add_context(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """`messages` with system prompt and instruction."""
        *before, last = messages
        if last.role != "user":
            raise InvalidRowError(
                f"the last message of the prompt has the role {last.role!r}, not 'user'; correct "
                "answers belong in a column of their own"
            )
        last = Message(role="user", content=f"{last.content}\n\n{self.request}".strip())
        if self.system is None:
            return (*before, last)
        if messages[0].role == "system":
            raise InvalidRowError("the prompt has a system message, and environment.system is set")
        return (Message(role="system", content=self.system), *before, last)

    def _answer(self, row: Row) -> str:
        name = self.columns.answer
        answer = as_text(_lookup(row, name), f"the column {name!r}")
        if self.answer_pattern is None:
            return answer
        found = re.search(self.answer_pattern, answer)
        if found is None or not found[1].strip():
            raise InvalidRowError(
                f"environment.answer_pattern finds nothing in the column {name!r}, which is "
                f"{answer!r:.100}"
            )
        return found[1].strip()

    def _gold(self, row: Row) -> str | None:
        """The correct answer where no reward reads it, so that it may also be missing or a list."""
        with suppress(InvalidRowError):
            return self._answer(row)
        with suppress(InvalidRowError):
            return str(_lookup(row, self.columns.answer)) or None
        return None

    def _with_answer(self, row: Row, answer: str | None) -> Row:
        if "answer" in row:
            return row
        if answer is not None:
            return {**row, "answer": answer}
        try:
            return {**row, "answer": _lookup(row, self.columns.answer)}
        except InvalidRowError:  # nothing reads it
            return row


def _join_messages(messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def as_text(value: Any, what: str) -> str:
    """An answer as text, with numbers in their usual spelling.

    Raises:
        InvalidRowError: `value` is empty, or neither text nor a number.
    """
    if isinstance(value, str):
        if not value.strip():
            raise InvalidRowError(f"{what} is empty")
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return str(int(value))  # whole numbers beside a missing one become 3.0
        if isfinite(value):
            return str(value)
    raise InvalidRowError(f"{what} is {value!r:.100}, not text or a number")


def fill_template(template: str, row: Row) -> str:
    """`template` with its fields replaced by values of `row`. Lists become lettered lines.

    Raises:
        InvalidRowError: a field is missing, empty, or neither text, a number, nor a list of them.
    """
    pieces = []
    for text, field, _, _ in Formatter().parse(template):
        pieces.append(text)
        if field is not None:
            value = _lookup(row, field)
            listed = isinstance(value, list | tuple) and len(value) > 0
            pieces.append(_letter_lines(value, field) if listed else as_text(value, f"{field!r}"))
    return "".join(pieces)


def template_fields(template: str) -> list[str]:
    """Names of the columns in `template`.

    Raises:
        ValueError: a brace is unbalanced, or a field is unnamed or has a format.
    """
    fields = []
    for _, field, form, conversion in Formatter().parse(template):
        if field is not None:
            if not field or form or conversion:
                raise ValueError(
                    f"the field {{{field}}} has no name, or a format. Write {{column}}, and {{{{ "
                    "and }} for literal braces"
                )
            fields.append(field)
    return fields


def _letter_lines(values: Sequence[Any], field: str) -> str:
    if len(values) > len(ascii_uppercase):
        raise InvalidRowError(f"{field!r} has {len(values)} entries, more than there are letters")
    lines = zip(ascii_uppercase, values, strict=False)
    return "\n".join(f"{letter}. {as_text(value, repr(field))}" for letter, value in lines)


def _lookup(row: Row, name: str) -> Any:
    """Value of the column `name`, or of the nested field that its dots lead to.

    Raises:
        InvalidRowError: it is missing or None.
    """
    if name in row:
        value = row[name]
    else:
        value = row
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        raise InvalidRowError(f"the column {name!r} is missing or has no value")
    return value


def _message(entry: Any, column: str) -> Message:
    match entry:
        case {"role": "system" | "user" | "assistant" | "tool" as role, "content": str(content)}:
            return Message(role=role, content=content)
        case {"role": str(role), "content": [{"type": "text", "text": str(content)}]}:
            return _message({"role": role, "content": content}, column)
    raise InvalidRowError(
        f"the column {column!r} holds the message {entry!r:.100}, not one with a role (system, "
        "user, assistant or tool) and text as content"
    )
