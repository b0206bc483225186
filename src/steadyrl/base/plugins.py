"""What other packages register as entry points."""

import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points


def registered(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group, by name. Packages are read once for each `sys.path`."""
    return _registered(group, tuple(sys.path))


@cache  # reading them takes 20 ms, and every configuration asks several times
def _registered(group: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
