"""What is published of the first-order probe agrees with itself."""

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "first_order_error.json"


def published(study: str, x: object) -> dict[tuple[str, ...], dict[str, Any]]:
    """The rows of one point, by what tells them apart."""
    names = ("replay", "target", "estimator")
    rows = json.loads(RESULTS.read_text())["rows"]
    return {
        tuple(row[name] for name in names): row
        for row in rows
        if (row["study"], row["x"]) == (study, x)
    }


def test_no_staleness_is_the_engine_of_that_study_alone() -> None:
    # One batch, one set of weights: under R3 too, whose pi_old is replayed as pi_theta is.
    fresh, on_policy = published("staleness", 0), published("numerics", "fp8")
    assert {"none", "r3"} <= {replay for replay, *_ in on_policy}
    assert on_policy.keys() <= fresh.keys()
    for key, row in on_policy.items():
        for kind in ("cosine", "norm_ratio", "relative_error"):
            assert fresh[key][kind] == pytest.approx(row[kind], abs=1e-3), (key, kind)
