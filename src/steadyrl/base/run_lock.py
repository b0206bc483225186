"""One writer for each run folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steadyrl.base.errors import UserError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Makes this process the only one that runs or resumes the run in `path`.

    The system lets go of the folder when the process ends, however it ends.

    Raises:
        UserError: another process writes the run, or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"The run folder {path} cannot be written: {error.strerror}. Choose another --out."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is writing the run in {path}. Wait until it ends, or end it, and "
                f"then continue the run with --resume {path}."
            ) from error
        yield
