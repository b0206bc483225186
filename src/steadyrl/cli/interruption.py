"""Messages for an interrupted command, with the command to resume."""

import errno
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from steadyrl.base.errors import UserError, cause, is_of_user_code
from steadyrl.records.run_folder import RunFolder

STORAGE_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
        errno.EMFILE,
    }
)
"""System errors that the user can fix. Others are bugs of this package."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


class Stopped(Exception):
    """Ends the command.

    Args:
        text: Message for the user; may be empty.
        code: The exit code.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def command_line(arguments: Sequence[str]) -> str:
    """The command with these arguments, quoted for a shell."""
    return shlex.join(["steadyrl", *arguments])


@contextmanager
def handle_sigterm() -> Iterator[None]:
    """Raises `Terminated` on SIGTERM, so that open resources are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def translate_interruptions(arguments: Sequence[str], run: Path | None = None) -> Iterator[None]:
    """Turns an interruption, a closed output, a fault of the disk or of user code into `Stopped`.

    Args:
        arguments: Arguments of the running command.
        run: Folder of the resumable run that the command writes.

    Raises:
        Stopped: with what to do next.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        code = 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
        raise Stopped(f"Interrupted. {resume_hint(arguments, run)}", code) from error
    except BrokenPipeError as error:
        text = "" if run is None else f"The output was closed. {resume_hint(arguments, run)}"
        raise Stopped(text, 128 + signal.SIGPIPE) from error
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            _refuse_user_code(error, arguments, run)
            raise
        file = f"{error.filename}: " if error.filename else ""
        reason = f"{file}{os.strerror(error.errno)}. Fix this first."
        raise Stopped(f"{reason} {resume_hint(arguments, run)}", 2) from error
    except Exception as error:
        if not isinstance(error, UserError | ValidationError | Stopped):
            _refuse_user_code(error, arguments, run)
        raise


def _refuse_user_code(error: Exception, arguments: Sequence[str], run: Path | None) -> None:
    """Returns if `error` is a bug of this package, which keeps its traceback.

    Raises:
        Stopped: the user's own code raised it.
    """
    if is_of_user_code(error):
        text = f"Your code failed: {cause(error)}. Fix it. {resume_hint(arguments, run)}"
        raise Stopped(text, 2) from error


def resume_hint(arguments: Sequence[str], run: Path | None) -> str:
    """The command that resumes `run`, or else repeats the running command."""
    if run is None or not RunFolder(run).is_taken:
        return f"Run it again with: {command_line(arguments)}"
    return f"{_lost(run)}Resume with: {command_line(['train', '--resume', str(run)])}"


def _lost(run: Path) -> str:
    """A sentence on the steps that a resumed run repeats; empty if there are none."""
    from steadyrl.run.resumption import lost_rows

    try:
        steps, seconds = lost_rows(RunFolder(run))
    except (UserError, OSError):
        return ""
    if steps == 0:
        return ""
    word = "step" if steps == 1 else "steps"
    return f"{steps} {word} since the last checkpoint ({seconds:.0f} s) will be repeated. "
