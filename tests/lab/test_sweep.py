"""Sweeps: the figure of a measure against one setting."""

from pathlib import Path

from steadyrl.lab.stale_rollouts import BOUNDS, stale_rollouts
from steadyrl.lab.sweep import draw_sweep, place
from steadyrl.policies.numerics import Numerics
from tests.lab.made_up import record


def test_the_figure_shows_what_was_run_and_leaves_out_what_was_not(tmp_path: Path) -> None:
    study = stale_rollouts(Numerics.FP8)
    line = study.lines[0]
    runs = {
        place(line, bound): {seed: record([0.5] * 8, seed=seed, mismatch=1e-3) for seed in (0, 1)}
        for bound in BOUNDS[:2]
    }

    drawn = draw_sweep(study, runs, tmp_path / "figure.svg").read_text()

    assert study.axis in drawn
    assert "final held-out score" in drawn
    assert line in drawn
    assert "mean of up to 2 seeds" in drawn
