"""Addresses of Ray clusters."""

import re

_LOCAL = re.compile(r"local:([1-9]\d*)")
_REMOTE = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


def local_cpus(address: str) -> int | None:
    """The CPUs of a cluster on this machine alone, `local:CPUS`; None for another address."""
    found = _LOCAL.fullmatch(address)
    return None if found is None else int(found[1])


def port_of(address: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`; None for another address."""
    found = _REMOTE.fullmatch(address)
    if found is None or found[1] == "local":
        return None
    return found[1].strip("[]"), int(found[2])
