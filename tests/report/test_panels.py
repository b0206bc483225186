"""Held-out scores of two runs on one axis, and what is noted beside a curve."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadyrl.analysis import Series
from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report
from steadyrl.report.panels import curve_notes, scores_over_responses
from steadyrl.report.run_data import read_run

MakeRun = Callable[..., RunFolder]
ReadPage = Callable[[Path], Any]


def run_of(scores: dict[int, float], responses: list[int] | None) -> list[dict[str, Any]]:
    """Rows of a run that evaluates before the first step and where `scores` says."""
    steps = max(scores)
    rows: list[dict[str, Any]] = [{"stage": "rl", "step": 0, "score": scores[0]}]
    for step in range(1, steps + 1):
        row: dict[str, Any] = {"stage": "rl", "step": step, "reward": 0.5}
        row |= {"responses": responses[step - 1]} if responses else {}
        row |= {"score": scores[step]} if step in scores else {}
        rows.append(row)
    return [{"stage": "cold_start", "step": 1, "loss": 2.0}, *rows]


def test_scores_stand_over_the_responses_sampled_so_far(make_run: MakeRun) -> None:
    folder = make_run(run_of({0: 0.1, 2: 0.5, 3: 0.75}, [10, 20, 40]))
    course = scores_over_responses(read_run(folder))
    assert course is not None
    assert course.steps.tolist() == [0, 30, 70]
    assert course.values.tolist() == [0.1, 0.5, 0.75]


def test_runs_are_compared_at_the_responses_that_both_have_sampled(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    frugal = make_run(run_of({0: 0.125, 2: 0.5, 4: 0.75}, [5, 5, 5, 5]), name="frugal")
    lavish = make_run(run_of({0: 0.125, 1: 0.25, 4: 0.875}, [20, 20, 20, 20]), name="lavish")
    page = read_page(write_report(frugal, [lavish]))

    # After 20 responses frugal has taken 4 steps and lavish 1.
    assert "Held-out score over responses; after 20 of them frugal 0.75 lavish 0.25" in page.text
    labels = page.values_of("aria-label")
    assert labels[0].startswith("frugal over 3 points, from 0.125 to 0.75; lavish over 3 points")
    assert "Comparison with other runs" not in read_page(write_report(frugal)).text


def test_runs_that_counted_no_responses_are_compared_by_steps(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    old = make_run(run_of({0: 0.125, 2: 0.5}, None), name="old")
    new = make_run(run_of({0: 0.125, 3: 0.25}, [5, 5, 5]), name="new")
    text = read_page(write_report(new, [old])).text
    assert "Held-out score over steps; after 2 of them new 0.125 old 0.5" in text


def test_runs_of_one_name_are_told_apart(
    make_run: MakeRun, read_page: ReadPage, tmp_path: Path
) -> None:
    rows = run_of({0: 0.125, 1: 0.5}, [4])
    (tmp_path / "elsewhere").mkdir()
    one, other = make_run(rows, name="lake"), make_run(rows, name="elsewhere/lake")
    assert "lake 0.5 lake (the other) 0.5" in read_page(write_report(one, [other])).text


def test_a_run_without_scores_is_not_compared(make_run: MakeRun) -> None:
    scored = make_run(run_of({0: 0.1, 1: 0.2}, [4]), name="scored")
    fresh = make_run([{"stage": "cold_start", "step": 1, "loss": 2.0}], name="fresh")
    with pytest.raises(UserError, match=r"The run fresh has no held-out score yet.*Wait for its"):
        write_report(scored, [fresh])
    assert not scored.report.exists()


def test_notes_tell_what_is_not_on_a_curve() -> None:
    curve = Series(name="r", steps=np.arange(10, 14), values=np.array([1.0, np.nan, np.inf, 0.0]))
    missing = "2 values not finite, first at step 11."

    assert curve_notes(curve, log_scale=False) == missing
    assert curve_notes(curve, log_scale=True) == (
        f"{missing} 1 value of 0 or below, not on the log axis."
    )
    zeros = Series(name="r", steps=np.arange(3), values=np.zeros(3))
    assert curve_notes(zeros, log_scale=True) == ""  # it is drawn on a linear axis


def test_notes_tell_the_strongest_layer() -> None:
    table = np.array([[0.0, 0.5], [0.25, np.nan]])
    layers = Series(name="per_layer", steps=np.array([1, 3]), values=table)
    assert curve_notes(layers, log_scale=False) == (
        "1 value not finite, first at step 3. Strongest color: 0.5. Layer 0 is at the bottom."
    )
