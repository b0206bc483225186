"""Engines, ranks and drivers die alone: no task is lost or consumed twice."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("ray")

from tests.run.placement.mortal_parts import die_in_parts
from tests.training.mortal_run import Way, die_often
from tests.training.test_continuous_sampler import ROOT, assert_counted

DEATHS = 200


@pytest.mark.filterwarnings("ignore:engine . ended:RuntimeWarning")
def test_parts_that_die_again_and_again_lose_no_task_and_consume_none_twice(
    tmp_path: Path,
) -> None:
    runs = die_often(tmp_path, 25, seed=0, life=die_in_parts)

    for way, found, _ in runs:
        assert_counted(way, found)
    deaths = sum((Counter(found["parts"]) for _, found, _ in runs), Counter[str]())
    assert min(deaths[part] for part in ("engine 0", "engine 1", "rank", "driver")) >= 1


@pytest.mark.slow
def test_200_parts_that_die_at_random_lose_no_task_and_consume_none_twice(tmp_path: Path) -> None:
    words = [str(tmp_path), str(DEATHS), "1", "parts"]
    program = [sys.executable, "-W", "ignore", "-m", "tests.training.mortal_run", *words]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)

    for run in runs:
        assert_counted(Way(**run["way"]), run)
    deaths = sum((Counter(run["parts"]) for run in runs), Counter[str]())
    assert deaths.total() >= DEATHS
    assert min(deaths[part] for part in ("engine 0", "engine 1", "rank", "driver")) >= 20
