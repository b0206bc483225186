"""What MLflow's store holds of a run. Needs the extra `mlflow`."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.stage import RunPosition
from steadyrl.training.trackers import MlflowSettings, TrackedRun
from tests.training.trackers.small import (
    POSITIONS,
    RL,
    ROWS,
    STAGES,
    expected_scalars,
    log_rows,
    tracked_run,
)

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and its dependencies


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowSettings:
    """A store in files, which MLflow keeps for those who ask for it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowSettings(tracking_uri=f"file://{tmp_path / 'store'}", experiment="words")


def track(settings: MlflowSettings, run: TrackedRun, rows: list[dict[str, Any]]) -> None:
    tracker = settings.open(run)
    log_rows(tracker, rows)
    tracker.note(RL, 2, "So it is.")
    tracker.close()


def the_only_run(settings: MlflowSettings) -> tuple[Any, Any]:
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name("words")
    (found,) = client.search_runs([experiment.experiment_id])
    return client, found


def scalars(settings: MlflowSettings) -> dict[tuple[str, int], float]:
    """Values by name and step, each of which must be there once."""
    client, run = the_only_run(settings)
    found: dict[tuple[str, int], float] = {}
    for name in run.data.metrics.keys() - {"row"}:
        for point in client.get_metric_history(run.info.run_id, name):
            assert (name, point.step) not in found
            found[name, point.step] = point.value
    return found


def test_metrics_are_those_of_the_run_at_the_steps_of_their_stage(
    settings: MlflowSettings, tmp_path: Path
) -> None:
    track(settings, tracked_run(tmp_path / "run"), ROWS)
    assert scalars(settings) == pytest.approx(expected_scalars(), nan_ok=True)


def test_the_run_has_the_name_of_the_folder_its_settings_and_its_notes(
    settings: MlflowSettings, tmp_path: Path
) -> None:
    track(settings, tracked_run(tmp_path / "run"), [])
    _, run = the_only_run(settings)
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert (run.data.params["steps"], run.data.params["learner.dtype"]) == ("3", "float32")
    assert run.data.tags["mlflow.note.content"] == "rl 2: So it is."


def test_rows_are_numbered_through_all_stages(settings: MlflowSettings, tmp_path: Path) -> None:
    track(settings, tracked_run(tmp_path / "run"), ROWS)
    client, run = the_only_run(settings)
    numbers = client.get_metric_history(run.info.run_id, "row")
    assert [(point.step, point.value) for point in numbers] == [(n, n) for n in POSITIONS]


@pytest.mark.parametrize("recorded", [3, 4, 5])
def test_a_resumed_run_goes_on_with_the_same_one_and_logs_nothing_twice(
    settings: MlflowSettings, tmp_path: Path, recorded: int
) -> None:
    """The run before it was killed after the fourth row, at a checkpoint before, at or after it.

    What is on record and was not logged, as if the process had died in between, is made up for.
    """
    track(settings, tracked_run(tmp_path / "run"), ROWS[:4])
    track(settings, tracked_run(tmp_path / "run", ROWS[:recorded]), ROWS[recorded:])
    assert scalars(settings) == pytest.approx(expected_scalars(), nan_ok=True)


def test_a_server_that_is_away_is_told_before_the_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = MlflowSettings(tracking_uri="http://127.0.0.1:9")
    told = r"The tracker 'mlflow' cannot be opened: .*\. Start the server that"
    with pytest.raises(UserError, match=told):
        Journal(
            RunFolder(tmp_path / "run"), JournalSettings(), STAGES, RunPosition(), trackers=[away]
        )
