"""Running what is missing, once, and sharing what is shared."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.lab.records import read_record
from steadyrl.lab.running import (
    Progress,
    StudyPaths,
    cold_start,
    finish_cold_start,
    finish_run,
    run_studies,
)
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.training.checkpoint import latest_checkpoint
from tests.lab.made_up import study_of
from tests.run.tiny import tiny_run

pytestmark = pytest.mark.slow


def paths(path: Path) -> StudyPaths:
    return StudyPaths(records=path / "results" / "runs", folders=path / "work")


def one_seed(study: Study) -> Study:
    return study.with_seeds(1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyPaths, list[Progress]]:
    """A study of two conditions and one seed, run in processes of their own."""
    place = paths(tmp_path_factory.mktemp("study"))
    seen: list[Progress] = []
    run_studies([one_seed(study_of([]))], place, processes=2, watch=seen.append)
    return place, seen


def test_every_run_leaves_a_record_and_a_share_of_the_progress(
    done: tuple[StudyPaths, list[Progress]],
) -> None:
    place, seen = done
    runs = place.records_of(one_seed(study_of([])))
    assert [list(by_seed) for by_seed in runs.values()] == [[0], [0]]
    assert all(
        len(record.curves["reward"]) == 2
        for by_seed in runs.values()
        for record in by_seed.values()
    )
    assert (seen[-1].finished, seen[-1].runs) == (2, 2)
    # Six steps of the cold start, then six of each run; an evaluation before it is a row too.
    assert seen[-1].all_steps == 18
    assert seen[-1].steps >= 18


def test_both_runs_began_with_one_cold_start(done: tuple[StudyPaths, list[Progress]]) -> None:
    place, _ = done
    starts = [f for f in place.folders.iterdir() if list(f.glob("checkpoints/cold_start-*"))]
    assert [folder.name for folder in starts] == [
        place.folder(cold_start(one_seed(study_of([])).conditions[0].run(0))).path.name
    ]


def test_a_shared_cold_start_changes_nothing(
    done: tuple[StudyPaths, list[Progress]], tmp_path: Path
) -> None:
    place, _ = done
    config = study_of([]).conditions[0].run(0)
    alone = start_run(config, tmp_path / "alone")
    assert rewards(alone) == rewards(place.folder(config))


def rewards(folder: RunFolder) -> list[tuple[float, float]]:
    rows = [row for row in folder.read_metrics() if row["stage"] == "rl" and row["step"]]
    assert rows
    return [(row["reward"], row["loss"]) for row in rows]


@pytest.mark.parametrize(("number", "tracebacks"), [(signal.SIGKILL, 0), (signal.SIGINT, 1)])
def test_workers_end_with_a_study_that_is_killed_or_interrupted(
    tmp_path: Path, number: int, tracebacks: int
) -> None:
    path = tmp_path / "work"
    study = subprocess.Popen(
        [sys.executable, "-m", "tests.lab.long_work", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    patience = time.monotonic() + 200
    while not path.exists() and time.monotonic() < patience:
        time.sleep(0.05)
    assert study.poll() is None
    if number == signal.SIGINT:
        os.killpg(study.pid, number)  # as Ctrl-C does
    else:
        study.kill()
    _, errors = study.communicate(timeout=60)
    assert errors.count("Traceback") == tracebacks  # no worker's
    time.sleep(1)
    left = path.read_text()
    assert 0 < len(left) < 1200
    time.sleep(1)
    assert path.read_text() == left


def test_what_is_finished_is_not_run_again(
    done: tuple[StudyPaths, list[Progress]], tmp_path: Path
) -> None:
    place, _ = done
    elsewhere = StudyPaths(records=place.records, folders=tmp_path / "never-made")
    run_studies([one_seed(study_of([]))], elsewhere, processes=1, watch=lambda _: None)
    assert not elsewhere.folders.exists()


def test_an_interrupted_run_goes_on_from_its_checkpoint(
    done: tuple[StudyPaths, list[Progress]], tmp_path: Path
) -> None:
    place, _ = done
    config = study_of([]).conditions[1].run(0)
    again = paths(tmp_path)
    shutil.copytree(place.folders, again.folders)
    folder = again.folder(config)
    shutil.rmtree(folder.checkpoints / "rl-000006")
    rows = folder.read_metrics()
    folder.keep_metrics([row | {"seconds": 0.0} for row in rows if row["step"] < 5])
    finish_run(config, again)

    resumed = read_record(again.new_record(config))
    uninterrupted = read_record(place.new_record(config))
    for record in (resumed, uninterrupted):
        del record.curves["seconds"]
    assert resumed.curves == uninterrupted.curves
    # Steps up to the checkpoint were not taken again: their seconds are those on record.
    assert [r["step"] for r in folder.read_metrics() if r.get("seconds") == 0] == [0, 1, 2, 3, 4]


def test_records_know_what_their_runs_began_with(
    done: tuple[StudyPaths, list[Progress]], tmp_path: Path
) -> None:
    place, _ = done
    study = one_seed(study_of([]))
    beginnings = {runs[0].cold_start for runs in place.records_of(study).values()}
    assert len(beginnings) == 1
    assert None not in beginnings


def test_a_run_without_a_cold_start_begins_with_its_own_model(
    done: tuple[StudyPaths, list[Progress]], tmp_path: Path
) -> None:
    place, _ = done
    started = place.folder(cold_start(study_of([]).conditions[0].run(0)))
    model = Pretrained(path=str(latest_checkpoint(started)))
    config = changed(tiny_run(steps=2), model=model.model_dump(), cold_start=None)
    condition = Condition(name="A", config=config)
    study = one_seed(replace(study_of([]), conditions=(condition,)))
    again = paths(tmp_path)
    run_studies([study], again, processes=1, watch=lambda _: None)

    record = again.records_of(study)["A"][0]
    assert record.cold_start is None
    assert len(record.curves["reward"]) == 1
    assert [folder.name for folder in again.folders.iterdir()] == [record.digest]


def test_a_run_that_breaks_down_is_a_result(tmp_path: Path) -> None:
    config = changed(
        tiny_run(), optimizer=OptimizerSettings(learning_rate=1e30).model_dump(), steps=4
    )
    place = paths(tmp_path)
    finish_cold_start(cold_start(config), place)
    finish_run(config, place)

    record = json.loads(place.new_record(config).read_text())
    assert "is not finite" in record["failure"]
    assert record["gradient_steps"] == 8


def test_the_cold_start_of_a_run_depends_on_nothing_after_it() -> None:
    def name(config: RunConfig) -> str:
        return paths(Path()).folder(cold_start(config)).path.name

    config = tiny_run()
    same = changed(
        config,
        steps=9,
        optimizer=OptimizerSettings(learning_rate=0.5).model_dump(),
        journal=config.journal.model_dump() | {"checkpoint_every": 5},
        algorithm=config.algorithm.model_dump() | {"mini_batches": 4},
    )
    assert name(same) == name(config)
    assert name(changed(config, seed=3)) != name(config)
