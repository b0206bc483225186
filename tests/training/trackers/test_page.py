"""The tracker of one's own that docs/trackers.md shows."""

import re
import sys
from pathlib import Path

import pytest

from tests.run.tiny import tiny_run
from tests.training.trackers.small import ROWS, log_rows, tracked_run

PAGE = Path(__file__).parents[3] / "docs" / "trackers.md"


def test_the_tracker_of_the_page_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_trackers.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    named = {"name": "my_trackers:PrintSettings", "metric": "loss"}
    _, settings = tiny_run(trackers=["jsonl", named]).trackers
    tracker = settings.open(tracked_run(tmp_path))
    log_rows(tracker, ROWS[:3])
    tracker.close()
    del sys.modules["my_trackers"]

    assert capsys.readouterr().out == "cold_start 1 1.0\ncold_start 2 0.5\nrl 0 None\n"
