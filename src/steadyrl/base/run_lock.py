"""One writer for each run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from steadyrl.base.errors import UserError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Makes this process the only one that runs or resumes the run in `path`.

    The system releases the lock when the process ends, however it ends. It holds on one machine;
    between machines that share the folder, as far as their file system has such locks.

    Raises:
        UserError: another process writes the run, or the folder cannot be written or locked.
    """
    lock = FileLock(path / ".lock", blocking=False, fallback_to_soft=False)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"Another process is writing the run in {path}. Wait until it ends, or end it, and "
            f"then continue the run with --resume {path}."
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The run folder {path} cannot be written: {reason}. Choose another --out."
        ) from error
    try:
        yield
    finally:
        lock.release()
