"""The one exception for what the caller can mend, and how that of foreign code is told."""

from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from steadyrl.base.text import well_formed

Answer = TypeVar("Answer")


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong, what was got and what to do.

    The command line prints it as one sentence and exits with code 2. Anything else that is raised
    is a defect of this package and keeps its traceback.
    """


class NonFiniteError(UserError):
    """A loss, a gradient, a weight or a logit is not finite: the policy has broken down."""


def answer_of(foreign: Callable[[], Answer], *, failure: str, remedy: str) -> Answer:
    """What code that is not ours returns.

    Args:
        failure: What it means if it raises, as `Reverse.start failed`.
        remedy: What to do then.

    Raises:
        UserError: it raises. A UserError of its own goes through as it is.
    """
    try:
        return foreign()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it may exit, too
        raise UserError(f"{failure}: {cause(error)}. {remedy}") from error


def of_kind(answer: Answer, kind: type, *, given_by: str, noun: str, remedy: str) -> Answer:
    """`answer` of code that is not ours, which is of `kind`.

    Args:
        given_by: What answered, as `Reverse.start`.
        noun: What a thing of `kind` is called.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(answer, kind):
        raise UserError(f"{given_by} gives {safe_repr(answer)}, which is no {noun}. {remedy}")
    return answer


def safe_repr(value: object) -> str:
    """How `value` of foreign code is written in a message."""
    try:
        return f"{value!r:.200}"
    except Exception:
        return f"a {type(value).__name__} that cannot be written"


def describe_error(error: BaseException) -> str:
    """Its type and its text, in one line."""
    try:
        told = " ".join(well_formed(str(error)).split()).rstrip(".")
    except Exception:  # the exception is foreign too
        told = ""
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def cause(error: BaseException) -> str:
    """An exception of a function that was called here: its type, its text, and its line there.

    The line is in the first file outside this package, which only passes calls on, if there is one.

    Example:
        cause(error) == "KeyError: 'limit' (line 12 of my_tasks.py)"
    """
    text = describe_error(error)
    frames = extract_tb(error.__traceback__)[1:]  # the first one called
    there = [frame for frame in frames if "importlib" not in frame.filename]
    there = [frame for frame in there if not _is_ours(frame.filename)] or there
    lines = [frame.lineno for frame in there if frame.filename == there[0].filename]
    return f"{text} (line {lines[-1]} of {Path(there[0].filename).name})" if lines else text


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parents[1])
