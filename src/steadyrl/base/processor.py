"""Name and maker of the processor."""

import platform
from functools import cache
from pathlib import Path

_INFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The model of the processor, or its architecture where the system does not say."""
    return _field("model name") or platform.processor() or platform.machine()


def processor_maker() -> str:
    """The maker as the processor states it, as `AuthenticAMD`; empty where unknown."""
    return _field("vendor_id")


@cache
def _field(name: str) -> str:
    if _INFO.is_file():
        for line in _INFO.read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""
