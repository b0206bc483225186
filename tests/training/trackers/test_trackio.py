"""What trackio's database holds of a run. Needs the extra `trackio`."""

import json
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from steadyrl.training.trackers import TrackedRun, TrackioSettings
from tests.training.trackers.small import POSITIONS, RL, ROWS, log_rows, tracked_run

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of trackio and its dependencies
    pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the project `words`. Trackio reads where it lies when it is imported."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder))
        import trackio  # noqa: F401
    return folder / "words.db"


def track(run: TrackedRun, rows: list[dict[str, Any]]) -> None:
    tracker = TrackioSettings(project="words").open(run)
    log_rows(tracker, rows)
    tracker.note(RL, 2, "So it is.")
    tracker.close()


def logged(database: Path, run: str) -> list[tuple[int, dict[str, Any]]]:
    """Step and values of each row of a run, in order."""
    query = "select step, metrics from metrics where run_name = ? order by id"
    with sqlite3.connect(database) as connection:
        return [(step, json.loads(text)) for step, text in connection.execute(query, [run])]


def test_rows_have_the_names_values_and_steps_of_their_stage(
    database: Path, tmp_path: Path
) -> None:
    track(tracked_run(tmp_path / "first"), ROWS)
    *rows, (_, note) = logged(database, "first")

    assert [step for step, _ in rows] == POSITIONS
    assert rows[1][1] == {"cold_start/step": 2, "cold_start/loss": 0.5}
    assert rows[3][1] == {
        "rl/step": 1,
        "rl/loss": "NaN",
        "rl/routing_per_layer/0": 0.5,
        "rl/routing_per_layer/1": 0.25,
    }
    assert rows[4][1]["rl/loss"] == "-Infinity"
    assert note["rl/notes"]["_value"] == "So it is."


def test_a_resumed_run_goes_on_with_the_same_one(database: Path, tmp_path: Path) -> None:
    track(tracked_run(tmp_path / "second"), ROWS[:5])
    track(tracked_run(tmp_path / "second", ROWS[:4]), ROWS[4:])
    steps = [step for step, values in logged(database, "second") if "rl/notes" not in values]
    assert steps == [*POSITIONS[:5], *POSITIONS[4:]]  # the fifth row was taken again
