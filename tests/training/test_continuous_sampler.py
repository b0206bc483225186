"""The continuous sampler: exactly counted, whatever dies, and never staler than the bound."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.mortal_run import (
    PROMPTS,
    STEPS,
    WAYS,
    Way,
    die_by_exception,
    die_often,
    live,
    outcome,
)

ROOT = Path(__file__).parents[2]
DEATHS = 200


def assert_counted(way: Way, found: dict[str, Any]) -> None:
    """No task is lost or consumed twice, no step recorded twice, no token staler than the bound."""
    assert found["steps"] == list(range(1, STEPS + 1))
    assert max(found["oldest"]) <= way.max_staleness
    consumed, plan = found["consumed"], list(range(PROMPTS * STEPS))
    if not way.drops:
        assert (consumed, found["dropped"], found["waiting"]) == (plan, 0, [])
        return
    assert len(consumed) == len(set(consumed)) == len(plan)
    assert set(consumed) | set(found["waiting"]) <= set(range(found["cursor"]))
    assert found["cursor"] == len(consumed) + found["dropped"] + len(found["waiting"])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_undisturbed_run_consumes_the_plan(tmp_path: Path, way: Way) -> None:
    live(tmp_path, way, lambda: None)
    found = outcome(tmp_path)

    assert_counted(way, found)
    assert (max(found["oldest"]) > 0) == (way.max_staleness > 0)
    assert all(mean <= oldest for mean, oldest in zip(found["mean"], found["oldest"], strict=True))
    assert any(mean % 1 for mean in found["mean"]) == (way.max_staleness > 0)  # within responses


def test_runs_that_die_again_and_again_lose_no_task_and_consume_none_twice(tmp_path: Path) -> None:
    runs = die_often(tmp_path, 8, seed=0, life=die_by_exception)

    for way, found, _ in runs:
        assert_counted(way, found)
    assert len(runs) > 2


@pytest.mark.slow
def test_200_processes_that_die_at_random_lose_no_task_and_consume_none_twice(
    tmp_path: Path,
) -> None:
    program = [sys.executable, "-m", "tests.training.mortal_run", str(tmp_path), str(DEATHS), "1"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)

    for run in runs:
        assert_counted(Way(**run["way"]), run)
    assert sum(run["deaths"] for run in runs) >= DEATHS
