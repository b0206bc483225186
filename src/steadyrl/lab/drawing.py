"""The figure of a study: four panels, a line for each condition."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from steadyrl.lab.records import RunRecord
from steadyrl.lab.study import Study
from steadyrl.report.plots import four_panels, mark_log_axis, save, smoothed

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#333333",
    "#999999",
)
"""A palette that color-blind readers can tell apart (Okabe and Ito)."""

SMOOTHED_OVER = 5
"""Bins in the running mean of a curve, fewer where that is more than a tenth of it."""

LOGARITHMIC = "mismatch_kl_k3"
"""The metric that is averaged and drawn by its logarithm."""

SMALLEST = 1e-12

TITLE_WIDTH = 118
"""Characters of a title that fit into the figure's width."""

Course = tuple[Float[np.ndarray, " _S"], Float[np.ndarray, " _S"]]
"""(gradient steps, values), equally many."""


def draw(study: Study, runs: Mapping[str, Mapping[int, RunRecord]], path: Path) -> Path:
    """The path of the figure: mean over seeds, and a band from the lowest seed to the highest.

    Seeds differ in their cold starts, which says nothing about the conditions. So what a seed has
    in common across conditions is taken out of the bands (Cousineau's method), where all
    conditions have the same seeds and none ended early. Conditions beyond the number of colors are
    dashed.
    """
    rows = -(-len(study.conditions) // 3)
    height = 5.6 + 0.25 * rows
    figure, panels = four_panels("gradient steps", height, study.panels)
    seeds = max((len(of_condition) for of_condition in runs.values()), default=0)
    bands = "bands: their range, less what a seed's runs share"
    title = f"{study.title}: mean of {seeds} seeds; {bands}"
    figure.suptitle(fill(title, TITLE_WIDTH), x=0.01, ha="left", fontsize=12)
    for name, axes in panels.items():
        courses = {
            condition.name: [
                _course(record, name)
                for record in runs[condition.name].values()
                if name == "score" or name in record.curves
            ]
            for condition in study.conditions
        }
        if name == LOGARITHMIC:
            axes.set_yscale("log")
        _draw_panel(axes, courses, logarithmic=name == LOGARITHMIC)
        if name == LOGARITHMIC:
            mark_log_axis(axes.yaxis)
    handles, labels = panels["score"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return save(figure, path)


def _course(record: RunRecord, name: str) -> Course:
    """The course of one metric in one run; of the mismatch, its natural logarithm."""
    if name == "score":
        steps, scores = zip(*record.scores, strict=True)
        return np.array(steps, dtype=np.float64), np.array(scores)
    values = record.curve(name)
    if name == LOGARITHMIC:
        values = np.log(np.maximum(values, SMALLEST))
    window = min(SMOOTHED_OVER, max(1, len(values) // 10)) // 2 * 2 + 1
    return record.bin_centers(len(values)), smoothed(values, window)


def _draw_panel(axes: Axes, courses: Mapping[str, list[Course]], *, logarithmic: bool) -> None:
    shown = np.exp if logarithmic else np.asarray
    bands = without_seeds(courses)
    for number, (name, runs) in enumerate(courses.items()):
        color = COLORS[number % len(COLORS)]
        style = "-" if number < len(COLORS) else "--"
        if not runs:
            axes.plot([], [], color=color, linestyle=style, label=name)
            continue
        shortest = min(len(steps) for steps, _ in runs)
        steps = runs[0][0][:shortest]
        mean = np.mean([values[:shortest] for _, values in runs], axis=0)
        axes.plot(steps, shown(mean), color=color, linestyle=style, linewidth=1.8, label=name)
        band = np.array([values[:shortest] for values in bands[name]])
        low, high = shown(band.min(axis=0)), shown(band.max(axis=0))
        axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        for steps, values in runs:  # those that went on when another had ended
            rest = slice(shortest - 1, None)
            axes.plot(steps[rest], shown(values[rest]), color=color, linewidth=0.8)


def without_seeds(
    courses: Mapping[str, list[Course]],
) -> dict[str, list[Float[np.ndarray, " _S"]]]:
    """The values of each run, less its seed's mean over conditions, plus the mean of all.

    They stay between the lowest and the highest seed of their condition: where seeds differ in some
    conditions and not in others, the difference would take them out of it. As they are where
    conditions have different seeds or runs of different length. A condition without runs is left
    out of it.
    """
    values = {name: [values for _, values in runs] for name, runs in courses.items()}
    drawn = {name: runs for name, runs in values.items() if runs}
    lengths = {len(course) for runs in drawn.values() for course in runs}
    counts = {len(runs) for runs in drawn.values()}
    if len(lengths) != 1 or len(counts) != 1:
        return values
    table = np.array(list(drawn.values()))
    centered = table - table.mean(axis=0) + table.mean(axis=(0, 1))
    centered = np.clip(centered, table.min(axis=1, keepdims=True), table.max(axis=1, keepdims=True))
    return values | {name: list(runs) for name, runs in zip(drawn, centered, strict=True)}
