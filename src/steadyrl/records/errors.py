"""The one exception for what the caller can mend, and how that of foreign code is told."""

from pathlib import Path
from traceback import extract_tb


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong, what was got and what to do.

    The command line prints it as one sentence and exits with code 2. Anything else that is raised
    is a defect of this package and keeps its traceback.
    """


class NonFiniteError(UserError):
    """A loss, a gradient, a weight or a logit is not finite: the policy has broken down."""


def cause(error: BaseException) -> str:
    """An exception of a function that was called here: its type, its text, and its line there.

    Example:
        cause(error) == "KeyError: 'limit' (line 12 of my_tasks.py)"
    """
    told = " ".join(str(error).split()).rstrip(".")
    text = f"{type(error).__name__}: {told}" if told else type(error).__name__
    frames = extract_tb(error.__traceback__)[1:]  # the first one called
    there = [frame for frame in frames if "importlib" not in frame.filename]
    lines = [frame.lineno for frame in there if frame.filename == there[0].filename]
    return f"{text} (line {lines[-1]} of {Path(there[0].filename).name})" if lines else text
