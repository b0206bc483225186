"""An offline run of the installed W&B is read back. `make test-trackers` runs this."""

import math
import time
from pathlib import Path

import pytest

from steadyrl.analysis.foreign.layouts import read_log

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore")  # of W&B and its dependencies


def settled(folder: Path) -> Path:
    """`folder`, once the run's file has stopped growing: `finish` returns before all is written."""
    (file,) = folder.rglob("*.wandb")
    size = -1
    for _ in range(100):
        before, size = size, file.stat().st_size
        if size == before:
            break
        time.sleep(0.2)
    return folder


def test_the_history_of_an_offline_run_is_read(tmp_path: Path) -> None:
    run = wandb.init(
        project="p", mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True)
    )
    for step in range(1, 2001):  # beyond the first block of the file
        run.log({"critic/score/mean": step / 2000, "actor/grad_norm": math.nan}, step=step)
    run.finish()
    log = read_log(settled(tmp_path))

    assert log.layout == "a W&B run"
    rewards = [(row.step, row.values["critic/score/mean"]) for row in log.rows]
    assert rewards == [(step, step / 2000) for step in range(1, 2001)]
    assert all(math.isnan(row.values["actor/grad_norm"]) for row in log.rows)


def test_the_parts_of_a_resumed_run_are_one_log(tmp_path: Path) -> None:
    rows = []
    for part, steps in (("run-20260101_000000-ab", (1, 2, 3)), ("run-20260102_000000-ab", (3, 4))):
        run = wandb.init(mode="offline", dir=tmp_path / part, id="ab", project="p")
        for step in steps:
            run.log({"critic/score/mean": step / 10}, step=step)
        run.finish()
        (file,) = settled(tmp_path / part).rglob("*.wandb")
        (tmp_path / "wandb" / part).mkdir(parents=True)
        file.rename(tmp_path / "wandb" / part / "run-ab.wandb")
        rows += steps

    assert [row.step for row in read_log(tmp_path).rows] == rows
