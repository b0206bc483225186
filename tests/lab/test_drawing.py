"""What the bands of a figure show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from steadyrl.lab.drawing import Course, _draw_panel, draw, without_seeds
from tests.lab.made_up import record, study_of


def courses(**values: list[list[float]]) -> dict[str, list[Course]]:
    return {
        name: [(np.arange(len(run), dtype=float), np.array(run)) for run in runs]
        for name, runs in values.items()
    }


def test_what_a_seed_s_runs_share_is_taken_out() -> None:
    # Seed 1 lies 0.4 above seed 0 in both conditions; A lies 0.1 above B in both seeds.
    shown = without_seeds(courses(A=[[0.3, 0.5], [0.7, 0.9]], B=[[0.2, 0.4], [0.6, 0.8]]))
    for run in shown["A"]:
        assert run.tolist() == pytest.approx([0.5, 0.7])
    for run in shown["B"]:
        assert run.tolist() == pytest.approx([0.4, 0.6])


def test_what_differs_between_seeds_within_a_condition_stays() -> None:
    shown = without_seeds(courses(A=[[0.3], [0.5]], B=[[0.3], [0.3]]))
    # Seed means .3 and .4, mean of all .35: A is .3 - .3 + .35 and .5 - .4 + .35.
    assert [run.tolist() for run in shown["A"]] == [pytest.approx([0.35]), pytest.approx([0.45])]


def test_a_condition_that_is_the_same_in_all_seeds_has_no_band() -> None:
    # Seed means .1 and .5, mean of all .3: A would be .3 and -.1, where no run ever was.
    shown = without_seeds(courses(A=[[0.1], [0.1]], B=[[0.1], [0.9]]))
    assert [run.tolist() for run in shown["A"]] == [[0.1], [0.1]]
    assert [run.tolist() for run in shown["B"]] == [pytest.approx([0.3]), pytest.approx([0.7])]


def test_every_condition_has_a_line_of_its_own() -> None:
    axes = Figure().subplots()
    names = [f"condition {number}" for number in range(9)]
    _draw_panel(axes, {name: [] for name in names}, logarithmic=False)
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}
    assert len(looks) == len(names)


def test_a_condition_without_the_metric_leaves_the_others_comparable() -> None:
    shown = without_seeds(courses(A=[[0.3], [0.7]], B=[[0.2], [0.6]], C=[]))
    assert [run.tolist() for run in shown["A"]] == [pytest.approx([0.5]), pytest.approx([0.5])]
    assert shown["C"] == []


def test_a_figure_shows_the_panels_of_its_study(tmp_path: Path) -> None:
    panels = ("score", "reward", "reward_after_reflection", "reward_reflected")
    study = replace(study_of([]), panels=panels)
    reflecting, plain = record([0.2] * 20), record([0.1] * 20)
    reflecting.curves["reward_after_reflection"] = [0.6] * 20
    reflecting.curves["reward_reflected"] = [0.5, None, *[0.6] * 18]
    path = draw(study, {"A": {0: reflecting}, "B": {0: plain}}, tmp_path / "figure.svg")
    assert path.stat().st_size > 0


def test_a_long_title_takes_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(
        "steadyrl.lab.drawing.save", lambda figure, path: (drawn.append(figure), path)[1]
    )
    runs = {name: {0: record([0.2] * 20)} for name in ("A", "B")}
    for words in (1, 5):
        study = replace(study_of([]), title=" ".join(["a rather long title"] * words))
        draw(study, runs, Path("figure.svg"))
    assert [len(figure.get_suptitle().splitlines()) for figure in drawn] == [1, 2]


@pytest.mark.parametrize(
    "values",
    [{"A": [[0.1, 0.2], [0.3]], "B": [[0.1, 0.2], [0.3, 0.4]]}, {"A": [[0.1]], "B": []}],
)
def test_unequal_runs_stay_as_they_are(values: dict[str, list[list[float]]]) -> None:
    shown = without_seeds(courses(**values))
    assert {name: [run.tolist() for run in runs] for name, runs in shown.items()} == values
