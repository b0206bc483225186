"""A Ray cluster that the tests of a module share: to start one takes seconds."""

from collections.abc import Iterator
from typing import Any

import pytest

from steadyrl.run.placement.settings import RayPlacement


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    """A cluster of two CPUs on this machine, to which this process is connected."""
    ray = pytest.importorskip("ray")
    from steadyrl.run.placement.cluster import connect

    connect("local:2")
    yield ray
    ray.shutdown()


@pytest.fixture
def on_ray(local_ray: Any) -> RayPlacement:
    """A placement on it."""
    return RayPlacement(address="local:2", connect_timeout=60.0, timeout=300.0)
