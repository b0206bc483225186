"""Errors that the user can fix, and reports of exceptions raised by user code."""

from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from steadyrl.base.text import well_formed

Answer = TypeVar("Answer")


class UserError(ValueError):
    """Invalid input. The message says what is wrong, what was received and how to fix it.

    The command line prints the message and exits with code 2. Any other exception is a bug in this
    package and keeps its traceback.
    """


class NonFiniteError(UserError):
    """A non-finite loss, gradient, weight or logit: training has diverged."""


def call_user_code(foreign: Callable[[], Answer], *, failure: str, remedy: str) -> Answer:
    """Calls user code and returns its result.

    Args:
        failure: Start of the message if the call raises, for example `Reverse.start failed`.
        remedy: How to fix the failure; end of the message.

    Raises:
        UserError: the call raises. A UserError raised by the user code is passed through.
    """
    try:
        return foreign()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # user code may also raise SystemExit
        raise UserError(f"{failure}: {cause(error)}. {remedy}") from error


def require_type(answer: Answer, kind: type, *, given_by: str, noun: str, remedy: str) -> Answer:
    """Returns `answer`, a result of user code, if it is an instance of `kind`.

    Args:
        given_by: Name of the user's function, for example `Reverse.start`.
        noun: Name of an instance of `kind` for the message, with its article.
        remedy: How to fix the result; end of the message.

    Raises:
        UserError: `answer` is not an instance of `kind`.
    """
    if not isinstance(answer, kind):
        raise UserError(f"{given_by} returned {safe_repr(answer)}, which is not {noun}. {remedy}")
    return answer


def safe_repr(value: object) -> str:
    """`repr(value)`, cut to 200 characters; a placeholder if `repr` raises."""
    try:
        return f"{value!r:.200}"
    except Exception:
        return f"a {type(value).__name__} whose repr failed"


def describe_error(error: BaseException) -> str:
    """The type and message of `error` on one line."""
    try:
        message = " ".join(well_formed(str(error)).split()).rstrip(".")
    except Exception:  # the __str__ of a user's exception may raise as well
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def cause(error: BaseException) -> str:
    """Type, message and source line of an exception raised by user code.

    The line is in the first file of the traceback outside this package, if there is one.

    Example:
        cause(error) == "KeyError: 'limit' (line 12 of my_tasks.py)"
    """
    text = describe_error(error)
    frames = extract_tb(error.__traceback__)[1:]  # the first frame is the caller
    there = [frame for frame in frames if "importlib" not in frame.filename]
    there = [frame for frame in there if not _is_ours(frame.filename)] or there
    lines = [frame.lineno for frame in there if frame.filename == there[0].filename]
    return f"{text} (line {lines[-1]} of {Path(there[0].filename).name})" if lines else text


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parents[1])
