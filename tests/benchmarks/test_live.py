"""The differences that the study of the live loop reports."""

from typing import Any

import pytest
from benchmarks.live import differences

from steadyrl.lab.live_study import ARMS


def run(arm: str, seed: int, last: float) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "success": [0.0, last, last, last]}


def test_differences_are_those_of_the_last_generations_over_seeds() -> None:
    # Gains of 0.2 and 0.4 over two seeds: mean 0.3, half width 12.706 * 0.1414 / sqrt(2) = 1.27.
    runs = [run(arm, seed, 0.5) for arm in ARMS for seed in (0, 1) if arm != "live loop"]
    runs += [run("live loop", 0, 0.7), run("live loop", 1, 0.9)]

    found = differences(runs)

    assert [each["against"] for each in found] == [arm for arm in ARMS if arm != "live loop"]
    assert found[0]["difference"] == pytest.approx(0.3)
    assert found[0]["high"] - found[0]["low"] == pytest.approx(2 * 12.706 * 0.1, rel=1e-3)
    assert found[0]["verdict"] == "undecided"


def test_equal_gains_are_a_difference() -> None:
    runs = [run(arm, seed, 0.5) for arm in ARMS for seed in (0, 1) if arm != "live loop"]
    runs += [run("live loop", seed, 0.75) for seed in (0, 1)]

    assert {each["verdict"] for each in differences(runs)} == {"more"}
