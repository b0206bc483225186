"""Runs whose trackers are missing, fail, or are changed at a resume."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import resume_run, start_run
from steadyrl.training.stage import Stage
from steadyrl.training.trackers import TrackedRun, Tracker, TrackerSettings
from tests.run.tiny import tiny_run


class Missing(TrackerSettings):
    """A tracker whose package is not installed."""

    def require(self) -> None:
        require_extra("package_of_no_one", "wandb")

    def open(self, run: TrackedRun) -> Tracker:
        raise AssertionError


class Away:
    """A tracker whose service refuses everything."""

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        raise ConnectionError("503 Service Unavailable")

    def note(self, stage: Stage, step: int, text: str) -> None:
        raise ConnectionError("503 Service Unavailable")

    def close(self) -> None:
        raise ConnectionError("503 Service Unavailable")


class AwaySettings(TrackerSettings):
    def open(self, run: TrackedRun) -> Tracker:
        return Away()


NAMES = {kind: f"{kind.__module__}:{kind.__qualname__}" for kind in (Missing, AwaySettings)}


def test_a_missing_package_is_told_before_anything_is_written(tmp_path: Path) -> None:
    config = tiny_run(trackers=[NAMES[Missing]])
    with pytest.raises(UserError, match=r"not installed\. Run: pip install 'steadyrl\[wandb\]'"):
        start_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_tracker_that_refuses_everything_changes_nothing_but_a_note(tmp_path: Path) -> None:
    plain = start_run(tiny_run(trackers=["jsonl"]), tmp_path / "plain")
    tracked = start_run(tiny_run(trackers=[NAMES[AwaySettings]]), tmp_path / "tracked")

    timed = ("seconds", "_per_second")
    rows = [
        [{k: v for k, v in row.items() if not k.endswith(timed)} for row in folder.read_metrics()]
        for folder in (plain, tracked)
    ]
    assert rows[0] == rows[1]
    notes = [n["note"] for n in tracked.read_notes() if n["note"].startswith("The tracker")]
    assert notes
    assert all("503 Service Unavailable (" in note for note in notes)
    assert not (plain.path / "tensorboard").exists()


def test_trackers_may_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    config = tiny_run(steps=2, trackers=["jsonl"])
    start_run(config, tmp_path / "run")
    changed = tiny_run(steps=3, trackers=["tensorboard"])
    resume_run(tmp_path / "run", config=changed)
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    (note,) = [
        n["note"] for n in RunFolder(tmp_path / "run").read_notes() if "Resumed" in n["note"]
    ]
    assert "trackers from jsonl to jsonl, tensorboard" in note
