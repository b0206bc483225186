"""Folders for temporary files, which a later process removes if theirs was killed."""

import fcntl
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

PREFIX = "steadyrl-"

_LOCK = ".lock"
"""File that the owner of a folder holds locked. It contains the name of the owner's machine."""


class TemporaryFolder:
    """A folder that is removed when it is closed, or by the next one there after a kill.

    Args:
        parent: Where it is made; None: in the folder for temporary files.

    Raises:
        OSError: it cannot be made there.
    """

    def __init__(self, parent: str | Path | None = None) -> None:
        self._folder = TemporaryDirectory(prefix=PREFIX, dir=parent)
        self.path = Path(self._folder.name)
        _remove_abandoned(self.path.parent)
        new = self.path / ".new"
        self._lock = new.open("w", encoding="utf-8")
        self._lock.write(socket.gethostname())
        self._lock.flush()
        if _take(self._lock):
            new.rename(self.path / _LOCK)  # it never has this name unlocked

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the folder."""
        self._folder.cleanup()
        self._lock.close()


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders in `parent` whose owners have ended without closing them."""
    for folder in list(parent.glob(f"{PREFIX}*")):
        with suppress(OSError), (folder / _LOCK).open(encoding="utf-8") as lock:
            # Some file systems lock for one machine only.
            if lock.read() == socket.gethostname() and _take(lock):
                shutil.rmtree(folder, ignore_errors=True)


def _take(lock: IO[str]) -> bool:
    """Locks a file until it is closed, unless another process holds it or it cannot be locked."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
