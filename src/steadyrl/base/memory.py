"""Memory that this process may still take, and what it has taken at most."""

from contextlib import suppress
from pathlib import Path

import psutil
import torch

CGROUP_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Files with the limit and the usage of a container, in versions 2 and 1 of cgroups."""


def available_memory(device: torch.device, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that are free on `device`: on the CPU, no more than the container's limit leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    left = container_memory(cgroups)
    return free if left is None else min(free, left)


def container_memory(cgroups: Path) -> int | None:
    """Bytes that the container's limit leaves; None where there is no limit.

    Pages of files that the kernel can drop are not counted as used.
    """
    for limit_file, usage_file in CGROUP_LIMITS:
        limit, usage = _number(cgroups / limit_file), _number(cgroups / usage_file)
        if limit is not None and usage is not None:
            droppable = _inactive_pages((cgroups / usage_file).with_name("memory.stat"))
            return max(0, limit - usage + droppable)
    return None


class PeakMemory:
    """The most memory that this process takes from now on, less what it takes now.

    Example:
        peak = PeakMemory(torch.device("cpu"))
        ...
        print(peak.bytes)
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        with suppress(OSError):  # only Linux has it; elsewhere earlier peaks count, too
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = int(psutil.Process().memory_info().rss)

    @property
    def bytes(self) -> int:
        """The peak so far."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max(0, _peak_of_process() - self._before)


def _peak_of_process() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _number(file: Path) -> int | None:
    """The number in `file`; None for the word `max`, or if there is no such file."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _inactive_pages(file: Path) -> int:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
