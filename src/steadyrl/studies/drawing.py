"""The figure of a study: four panels as in arXiv:2512.01374, a line for each condition."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from steadyrl.report.figure import four_panels, save
from steadyrl.studies.records import RunRecord
from steadyrl.studies.study import Study

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")
"""Told apart by the colour-blind as well (Okabe and Ito)."""

SMOOTHED_OVER = 5
"""Bins in the running mean of a curve."""


def draw(study: Study, runs: Mapping[str, Mapping[int, RunRecord]], path: Path) -> Path:
    """The path of the figure: mean over seeds, and a band from the lowest seed to the highest."""
    rows = -(-len(study.conditions) // 3)
    figure, panels = four_panels("gradient steps", height=5.6 + 0.25 * rows)
    seeds = max((len(of_condition) for of_condition in runs.values()), default=0)
    figure.suptitle(
        f"{study.title}: mean and range of {seeds} seeds", x=0.01, ha="left", fontsize=12
    )
    panels["mismatch_kl_k3"].set_yscale("log")
    for number, condition in enumerate(study.conditions):
        records = list(runs[condition.name].values())
        colour = COLOURS[number % len(COLOURS)]
        for name, axes in panels.items():
            _draw(axes, _courses(records, name), colour, condition.name)
    handles, labels = panels["score"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return save(figure, path)


Course = tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]


def _courses(records: Iterable[RunRecord], name: str) -> list[Course]:
    """(gradient steps, values) of each run."""
    if name == "score":
        return [
            (np.array([s for s, _ in r.scores], float), np.array([v for _, v in r.scores]))
            for r in records
        ]
    curves = [(record, record.curve(name)) for record in records]
    return [(record.bin_centres(len(curve)), _smooth(curve)) for record, curve in curves]


def _draw(axes: Axes, courses: list[Course], colour: str, label: str) -> None:
    """The mean where all seeds are, and thin lines where one has ended early."""
    if not courses:
        axes.plot([], [], color=colour, label=label)
        return
    shortest = min(len(steps) for steps, _ in courses)
    steps = courses[0][0][:shortest]
    values = np.stack([values[:shortest] for _, values in courses])
    axes.plot(steps, values.mean(axis=0), color=colour, linewidth=1.8, label=label)
    axes.fill_between(
        steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0
    )
    for steps, longer in courses:
        axes.plot(steps[shortest - 1 :], longer[shortest - 1 :], color=colour, linewidth=0.8)


def _smooth(values: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Mean of each value and its neighbours, fewer of them at the ends."""
    half = SMOOTHED_OVER // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])
