"""Ending a process when its parent ends, whatever it is running."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def end_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when the thread that started it ends. Linux only.

    On other systems this does nothing: the process notices the closed pipe at its next read.

    Args:
        parent: Process id of the parent. If the parent has already ended, this process exits.
    """
    if _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) and os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Undoes `end_with_parent`."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """Makes this process the parent of orphaned descendants. Linux only."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    """Calls `prctl`; returns whether the kernel accepted the option."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return bool(prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
