"""The record of a run, as others read it."""

from pathlib import Path

import duckdb

from steadyrl.records.run_folder import RunFolder
from steadyrl.training.trackers import JsonlSettings, Tracker
from tests.training.trackers.small import RL, ROWS, log_rows, tracked_run


def test_rows_and_notes_come_back_as_they_were(tmp_path: Path) -> None:
    tracker = JsonlSettings().open(tracked_run(tmp_path))
    assert isinstance(tracker, Tracker)
    log_rows(tracker, ROWS)
    tracker.note(RL, 2, "So it is.")
    tracker.close()

    assert repr(RunFolder(tmp_path).read_metrics()) == repr(ROWS)  # NaN is not equal to itself
    assert RunFolder(tmp_path).read_notes() == [{"stage": "rl", "step": 2, "note": "So it is."}]


def test_duckdb_reads_what_is_not_finite(tmp_path: Path) -> None:
    log_rows(JsonlSettings().open(tracked_run(tmp_path)), ROWS)
    file = tmp_path / "metrics.jsonl"
    found = duckdb.sql(f"select loss from '{file}' where stage = 'rl' order by step").fetchall()
    assert repr([loss for (loss,) in found]) == "[None, nan, -inf, 0.125]"
