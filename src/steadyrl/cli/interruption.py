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

from steadyrl.base.errors import UserError
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
"""Faults of the machine that its user can mend. Others are defects of this package."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


class Stopped(Exception):
    """The command ends here.

    Args:
        text: What its user is told; empty for nothing.
        code: The exit code.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def command_line(arguments: Sequence[str]) -> str:
    """The command with these arguments, as it is typed into a shell."""
    return shlex.join(["steadyrl", *arguments])


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Raises `Terminated` where SIGTERM arrives, so that what is open is closed."""
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
def stops_told(arguments: Sequence[str], run: Path | None = None) -> Iterator[None]:
    """Turns an interruption, a closed output or a fault of the disk into `Stopped`.

    Args:
        arguments: Of the command that is running.
        run: The folder of the run that it writes, which can be resumed.

    Raises:
        Stopped: with what to do next.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        code = 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
        raise Stopped(f"Interrupted. {how_to_go_on(arguments, run)}", code) from error
    except BrokenPipeError as error:
        text = "" if run is None else f"The output was closed. {how_to_go_on(arguments, run)}"
        raise Stopped(text, 128 + signal.SIGPIPE) from error
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            raise
        file = f"{error.filename}: " if error.filename else ""
        reason = f"{file}{os.strerror(error.errno)}. Mend that first."
        raise Stopped(f"{reason} {how_to_go_on(arguments, run)}", 2) from error


def how_to_go_on(arguments: Sequence[str], run: Path | None) -> str:
    """The command that goes on with `run`, or else the one that is running."""
    if run is None or not RunFolder(run).is_taken:
        return f"Run it again with: {command_line(arguments)}"
    return f"{_lost(run)}Resume with: {command_line(['train', '--resume', str(run)])}"


def _lost(run: Path) -> str:
    """The steps that a resumed run takes again, in words; empty if there are none."""
    from steadyrl.run.resumption import lost_rows

    try:
        steps, seconds = lost_rows(RunFolder(run))
    except (UserError, OSError):
        return ""
    if steps == 0:
        return ""
    word = "step" if steps == 1 else "steps"
    return f"{steps} {word} since the last checkpoint ({seconds:.0f} s) will be taken again. "
