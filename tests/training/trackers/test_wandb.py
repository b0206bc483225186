"""W&B's own files of a run that is tracked offline. Needs the extra `wandb`."""

import json
import math
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.stage import RunPosition
from steadyrl.training.trackers import TrackedRun, WandbSettings
from tests.training.trackers.small import POSITIONS, RL, ROWS, STAGES, log_rows, tracked_run

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore")  # of W&B and its dependencies

OFFLINE = WandbSettings(mode="offline", project="words", tags=("a",))
BLOCK = 32768


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format, whose entries are protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    data, at, entry = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        entry += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(entry)
            yield record
            entry = b""


def contents_of(run: TrackedRun) -> list[dict[str, list[Any]]]:
    """The records by kind of each part of a run. A process of W&B writes them in its own time."""
    files = sorted(run.folder.path.glob("wandb/offline-run-*/*.wandb"))
    parts: list[dict[str, list[Any]]] = [{} for _ in files]
    deadline = time.monotonic() + 60
    while not all("exit" in part for part in parts) and time.monotonic() < deadline:
        time.sleep(0.05)
        parts = [{} for _ in files]
        for file, part in zip(files, parts, strict=True):
            for record in records(file):
                kind = record.WhichOneof("record_type")
                part.setdefault(kind, []).append(getattr(record, kind))
    return parts


def history(part: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows of a run, without what W&B adds to them, with sorted names."""
    rows = [
        {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in row.item}
        for row in part["history"]
    ]
    added = ("_timestamp", "_runtime")
    return [{name: row[name] for name in sorted(row) if name not in added} for row in rows]


def track(run: TrackedRun, rows: list[dict[str, Any]], settings: WandbSettings = OFFLINE) -> None:
    tracker = settings.open(run)
    log_rows(tracker, rows)
    tracker.note(RL, 2, "So it is.")
    tracker.close()


def test_rows_have_the_names_values_and_steps_of_their_stage(tmp_path: Path) -> None:
    run = tracked_run(tmp_path / "run")
    track(run, ROWS)
    (part,) = contents_of(run)
    rows = history(part)

    assert [row.pop("_step") for row in rows] == POSITIONS
    assert rows[1] == {"cold_start/step": 2, "cold_start/loss": 0.5}
    assert math.isnan(rows[3].pop("rl/loss"))
    assert rows[3] == {
        "rl/step": 1,
        "rl/routing_per_layer/0": 0.5,
        "rl/routing_per_layer/1": 0.25,
    }
    assert rows[4] == {"rl/step": 2, "rl/loss": -math.inf, "rl/responses": 8}


def test_charts_are_drawn_over_the_steps_of_a_stage(tmp_path: Path) -> None:
    run = tracked_run(tmp_path / "run")
    track(run, [])
    (part,) = contents_of(run)
    axes = {each.glob_name: each.step_metric for each in part["metric"] if each.glob_name}
    assert axes == {"cold_start/*": "cold_start/step", "rl/*": "rl/step"}


def test_the_run_has_the_name_of_the_folder_its_configuration_and_its_notes(
    tmp_path: Path,
) -> None:
    run = tracked_run(tmp_path / "run")
    track(run, ROWS[:1])
    (part,) = contents_of(run)
    (begun,) = part["run"]
    settings = {item.key: json.loads(item.value_json) for item in begun.config.update}
    notes = [i.value_json for each in part["summary"] for i in each.update if i.key == "notes"]

    assert (begun.display_name, begun.project, list(begun.tags)) == ("run", "words", ["a"])
    assert settings["learner"] == {"dtype": "float32"}
    assert json.loads(notes[-1]) == ["rl 2: So it is."]


def test_a_resumed_run_is_the_same_one_and_whole_by_itself(tmp_path: Path) -> None:
    # Offline, W&B cannot know what an earlier part holds, so that the later one has it too.
    track(tracked_run(tmp_path / "run"), ROWS[:5])
    resumed = tracked_run(tmp_path / "run", ROWS[:4])
    track(resumed, ROWS[4:])
    first, second = contents_of(resumed)

    assert first["run"][0].run_id == second["run"][0].run_id
    assert [row["_step"] for row in history(first)] == POSITIONS[:5]
    assert [row["_step"] for row in history(second)] == POSITIONS
    assert repr(history(first)) == repr(history(second)[:5])


def test_without_a_login_the_run_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    told = r"The tracker 'wandb' cannot be opened: .*\. Run 'wandb login', or set"
    with pytest.raises(UserError, match=told):
        Journal(
            RunFolder(tmp_path / "run"),
            JournalSettings(),
            STAGES,
            RunPosition(),
            trackers=[WandbSettings(mode="online")],
        )
