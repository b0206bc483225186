"""Comparison of the metrics of two runs that round differently."""

from collections.abc import Mapping
from typing import Any

import pytest

COUNT = "weights_changed_fraction"
"""A count of a few thousand weights, of which a few may round to themselves: one is 1.7e-4."""


def assert_rows_close(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Two rows agree to 1e-4, and the count of changed weights to a few weights."""
    ours, theirs = dict(one), dict(other)
    assert ours.pop("stage") == theirs.pop("stage")
    assert ours.pop(COUNT, None) == pytest.approx(theirs.pop(COUNT, None), abs=1e-3)
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
