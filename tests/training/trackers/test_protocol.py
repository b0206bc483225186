"""Positions, names and identities of a run that is tracked."""

import math
from pathlib import Path

import pytest

from steadyrl.training.trackers import flat
from tests.training.trackers.small import POSITIONS, ROWS, tracked_run


def test_rows_of_all_stages_stand_on_one_axis_without_gaps_or_overlaps(tmp_path: Path) -> None:
    run = tracked_run(tmp_path)
    assert [run.position(row["stage"], row["step"]) for row in ROWS] == POSITIONS
    with pytest.raises(ValueError, match="no stage 'other'"):
        run.position("other", 0)


def test_lists_are_numbered_and_what_is_not_a_number_is_left_out() -> None:
    metrics = {"loss": math.inf, "layers": [1, 2.5], "right": True, "text": "x", "none": None}
    assert flat(metrics, "rl") == {
        "rl/loss": math.inf,
        "rl/layers/0": 1.0,
        "rl/layers/1": 2.5,
        "rl/right": 1.0,
    }


def test_a_run_keeps_the_name_by_which_a_service_knows_it(tmp_path: Path) -> None:
    first = tracked_run(tmp_path / "run")
    assert first.name == "run"
    assert first.identity("wandb", lambda: "a1") == "a1"
    resumed = tracked_run(tmp_path / "run", ROWS[:2])
    assert resumed.identity("wandb", lambda: "b2") == "a1"
    assert resumed.identity("mlflow", lambda: "c3") == "c3"


def test_what_is_on_record_comes_with_its_stage(tmp_path: Path) -> None:
    recorded = list(tracked_run(tmp_path, ROWS[1:3]).recorded())
    assert [(stage.name, step, dict(metrics)) for stage, step, metrics in recorded] == [
        ("cold_start", 2, {"loss": 0.5}),
        ("rl", 0, {"score": 0.25}),
    ]
