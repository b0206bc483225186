"""A lock that admits one writer per run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from steadyrl.base.errors import UserError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Holds the lock of the run folder `path`, so that no other process writes the run.

    The operating system releases the lock when the process ends, even if it is killed. Between
    machines that share the folder, the lock works only if their file system supports it.

    Raises:
        UserError: another process is writing the run, or the folder cannot be written or locked.
    """
    lock = FileLock(path / ".lock", blocking=False, fallback_to_soft=False)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"Another process is writing the run in {path}. Wait until it ends, or end it, and "
            f"then resume the run with --resume {path}."
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
