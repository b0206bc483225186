"""Ranks that the tests of this folder share: to start them takes seconds."""

from collections.abc import Iterator

import pytest

from steadyrl.learners.fsdp.hosts import ThisMachine
from steadyrl.learners.fsdp.ranks import RankGroup


@pytest.fixture(scope="session")
def two() -> Iterator[RankGroup]:
    """Two ranks. Each learner takes the place of the one before."""
    group = RankGroup(2, ThisMachine("cpu"), timeout=300.0)
    yield group
    group.close()
