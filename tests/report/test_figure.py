from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_figure
from steadyrl.report.plots import save

MakeRun = Callable[..., RunFolder]


def rows(steps: int, reward: float) -> list[dict[str, Any]]:
    return [
        {"stage": "rl", "step": step, "reward": reward * step, "mismatch_kl_k3": 10.0**-step}
        for step in range(1, steps + 1)
    ]


def test_the_picture_shows_the_curves_it_is_given(make_run: MakeRun, tmp_path: Path) -> None:
    """Equal data, equal pictures; another reward, another panel at the lower left."""
    run = make_run(rows(5, reward=0.1))
    first = imread(write_figure(run, tmp_path / "deep" / "first.png"))
    again = imread(write_figure(run, tmp_path / "again.png"))
    run.keep_metrics([{**row, "reward": 0.1 / row["step"]} for row in rows(5, reward=0.1)])
    other = imread(write_figure(run, tmp_path / "other.png"))

    assert (first == again).all()
    height, width, _ = first.shape
    assert (first != other)[height // 2 :, : width // 2].any()


def test_a_run_without_reinforcement_has_no_picture(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run([{"stage": "cold_start", "step": 1, "loss": 2.0}])
    with pytest.raises(UserError, match="no reinforcement step yet"):
        write_figure(run, tmp_path / "figure.png")


def test_a_picture_without_an_ending_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a has no suffix\. Add \.png"):
        save(Figure(), tmp_path / "a")
    assert not list(tmp_path.glob("a*"))


def test_a_file_ending_that_is_no_picture_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figure\.doc.*Use \.png"):
        write_figure(make_run(rows(2, reward=0.1)), tmp_path / "figure.doc")
