"""Ending a process when the one that started it ends, whatever it runs."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def end_with_parent(parent: int) -> None:
    """Has the kernel kill this process when the thread that started it ends. Linux only.

    Elsewhere nothing happens: such a process sees the end of its pipe when it next reads.

    Args:
        parent: Process id of the parent. If it is gone already, this process ends here.
    """
    if _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) and os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Takes `end_with_parent` back."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends. Linux only."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    """Whether the kernel took it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return bool(prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
