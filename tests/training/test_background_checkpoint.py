"""Checkpoints that are written while steps are taken: whole under their name, or not there."""

import json
from pathlib import Path
from typing import Any

import pytest

from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    read_place,
    read_waiting,
)
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import JournalSettings
from steadyrl.training.sampler import WaitingRollouts
from steadyrl.training.stage import RunPosition, Stage
from tests.learners.small import Idle
from tests.training.mortal_run import TaskLearner

STAGE = Stage(name="rl", algorithm=Idle(), steps=9, optimizer=OptimizerSettings(), temperature=1.0)


class SlowWriter(TaskLearner):
    """Writes what it had consumed when a save began, once `writes` is set."""

    saves_in_background = True

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.writes = False
        self._begun: tuple[Path, list[int]] | None = None

    def begin_save(self, folder: Path) -> None:
        assert self._begun is None, "one save at a time"
        self._begun = folder, list(self.consumed)

    def is_saved(self) -> bool:
        return self.writes

    def finish_save(self) -> None:
        assert self._begun is not None
        (folder, consumed), self._begun = self._begun, None
        (folder / "consumed.json").write_text(json.dumps(consumed))


def saving(path: Path) -> tuple[Checkpointer, SlowWriter]:
    return Checkpointer(RunFolder(path), JournalSettings(keep_checkpoints=1)), SlowWriter()


def save(checkpointer: Checkpointer, learner: SlowWriter, step: int) -> None:
    learner.consumed.append(step)
    learner.policy_version = step
    waiting = WaitingRollouts(schedule={"cursor": step}, finished=b"groups")
    checkpointer.save(STAGE, RunPosition(stage=0, step=step), learner, {"step": step}, waiting)


def test_a_checkpoint_has_its_name_when_all_is_written_and_holds_one_moment(tmp_path: Path) -> None:
    checkpointer, learner = saving(tmp_path)
    save(checkpointer, learner, 3)
    learner.consumed.append(4)
    learner.policy_version = 4
    checkpointer.advance()
    assert latest_checkpoint(RunFolder(tmp_path)) is None

    learner.writes = True
    checkpointer.advance()
    last = latest_checkpoint(RunFolder(tmp_path))
    assert last is not None
    resumed = SlowWriter()
    assert load_checkpoint(last, resumed) == RunPosition(stage=0, step=3)
    assert (resumed.consumed, resumed.policy_version) == ([3], 3)
    waiting = read_waiting(last)
    assert waiting is not None
    assert (waiting.schedule, waiting.finished) == ({"cursor": 3}, b"groups")


@pytest.mark.parametrize("finish", ["save", "complete"])
def test_the_one_before_stays_until_the_next_is_whole(tmp_path: Path, finish: str) -> None:
    checkpointer, learner = saving(tmp_path)
    save(checkpointer, learner, 1)
    checkpointer.complete()
    save(checkpointer, learner, 2)
    assert kept(tmp_path) == [1]
    if finish == "save":
        save(checkpointer, learner, 3)
    else:
        checkpointer.complete()
    assert kept(tmp_path) == [2]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpointer, learner = saving(tmp_path)
    save(checkpointer, learner, 1)

    def fail() -> Any:
        raise OSError(28, "No space left on device")

    learner.finish_save = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space left"):
        checkpointer.complete()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    checkpointer.complete()  # nothing is pending


def kept(path: Path) -> list[int]:
    """Steps of the checkpoints that a resume would find."""
    found = (path / "checkpoints").glob("[!.]*")
    return sorted(read_place(each)[1] for each in found)
