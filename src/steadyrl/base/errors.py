"""Errors that the user can fix, and reports of exceptions raised by user code."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from sysconfig import get_path
from traceback import walk_tb
from typing import TypeVar

from pydantic import PydanticUserError

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
        text = _pydantic_text(error) if isinstance(error, PydanticUserError) else str(error)
        message = " ".join(well_formed(text).split()).rstrip(".")
    except Exception:  # the __str__ of a user's exception may raise as well
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _pydantic_text(error: PydanticUserError) -> str:
    """What is wrong with a class of settings, without the address of pydantic's page on it."""
    found = re.search(r"`(\w+) = (.*?)`", error.message)
    if error.code != "model-field-missing-annotation" or found is None:
        return error.message
    name, value = found.groups()
    return f"{name} = {value} has no type. Annotate it, as in {name}: TYPE = {value}"


def cause(error: BaseException) -> str:
    """Type, message, file and line of an exception that was caught around a call to user code.

    The place is the innermost line in the user's own files, or else the line in the first installed
    package that was called. An exception of this package alone has no place.

    Example:
        cause(error) == "KeyError: 'limit' (my_tasks.py:12)"
    """
    places = _foreign(_places(error))
    own = [place for place in places if not _is_installed(place[0])]
    packages = [place for place in places if "site-packages" in Path(place[0]).parts]
    places = own or [place for place in packages if place[0] == packages[0][0]]
    text = describe_error(error)
    return f"{text} ({_relative(places[-1][0])}:{places[-1][1]})" if places else text


def is_of_user_code(error: BaseException) -> bool:
    """Whether the user's own files, or a package that they call, raised the exception."""
    places = _places(error)
    ours = [number for number, (file, _) in enumerate(places) if _is_ours(file)]
    within = _foreign(places[ours[-1] + 1 :] if ours else places)
    return any(not _is_installed(file) for file, _ in within)


def is_user_file(filename: str) -> bool:
    """Whether a file belongs neither to this package, nor to Python or an installed package."""
    return not (_is_ours(filename) or _is_installed(filename))


def _places(error: BaseException) -> list[tuple[str, int]]:
    """File and line of each call on the way to the exception, the innermost last."""
    calls = walk_tb(error.__traceback__)
    return [(frame.f_code.co_filename, line) for frame, line in calls]


def _foreign(places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The places in files that are not of this package."""
    return [place for place in places if not (place[0].startswith("<") or _is_ours(place[0]))]


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parents[1])


def _is_installed(filename: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    folders = (get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(Path(filename).is_relative_to(folder) for folder in folders)


def _relative(filename: str) -> str:
    """The path from the working folder to a file in it, or the whole path."""
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except (ValueError, OSError):  # OSError: user code may have removed the working folder
        return filename
