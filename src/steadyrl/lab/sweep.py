"""Sweeps: measures against one setting, a line for each treatment.

Nothing is chosen as runs come in, other than in a study of doses: every line has every point on
every seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steadyrl.lab.claims import Interval
from steadyrl.lab.drawing import COLORS
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.records import RunRecord
from steadyrl.lab.study import Condition, Study
from steadyrl.report.plots import save
from steadyrl.run.config import RunConfig

SCORES = ("first_score", "final_score", "best_score", "mean_score")
"""Measures of every sweep. Runs of a seed and a cold start must have one first score."""

APART = 0.06
"""Distance between the dots of two lines at one point; points are 1 apart."""

TITLES = {
    "final_score": "final held-out score",
    "final_reward": "final training reward",
    "log10_mismatch": "log10 of the mismatch k3",
    "log10_staleness": "log10 of the k3 of old rollouts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStudy(Study):
    """A study whose conditions are the points of lines."""

    axis: str
    """Label of the points."""

    points: tuple[float, ...]
    lines: tuple[str, ...]

    drawn: tuple[str, ...] = ("final_score", "final_reward", "log10_mismatch", "log10_staleness")
    """Measures that the figure shows, each in a panel."""


def place(line: str, point: float) -> str:
    """The name of the condition at a point of a line."""
    return f"{line}, {point:g}"


def conditions_of(
    lines: Mapping[str, Sequence[tuple[float, RunConfig]]],
) -> Iterator[Condition]:
    """The condition of every point of every line."""
    for line, at_points in lines.items():
        for point, config in at_points:
            yield Condition(name=place(line, point), config=config)


def draw_sweep(study: SweepStudy, runs: Mapping[str, Mapping[int, RunRecord]], path: Path) -> Path:
    """The path of the figure: the mean over seeds of each measure, with Student's 95% interval."""
    rows = -(-len(study.drawn) // 2)
    figure = Figure(figsize=(11, 0.9 + 3.2 * rows), layout="constrained")
    seeds = max((len(of_condition) for of_condition in runs.values()), default=0)
    figure.suptitle(
        f"{study.title}: mean of up to {seeds} seeds. Bars: intervals of 95%",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for measure, axes in zip(study.drawn, panels, strict=False):
        _draw_panel(axes, study, runs, measure)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return save(figure, path)


def _draw_panel(
    axes: Axes,
    study: SweepStudy,
    runs: Mapping[str, Mapping[int, RunRecord]],
    measure: str,
) -> None:
    for number, line in enumerate(study.lines):
        at_points = []
        for position, point in enumerate(study.points):
            ran = runs.get(place(line, point), {}).values()
            values = np.array([MEASURES[measure](run) for run in ran], dtype=np.float64)
            found = Interval.of(values[np.isfinite(values)])
            if found.count:
                shift = APART * (number - (len(study.lines) - 1) / 2)
                at_points.append((position + shift, found))
        places = [position for position, _ in at_points]
        means = [found.mean for _, found in at_points]
        half = [found.high - found.mean if found.count > 1 else 0.0 for _, found in at_points]
        axes.errorbar(
            places,
            means,
            yerr=half,
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1.2,
            color=COLORS[number % len(COLORS)],
            linestyle=("-", "--")[number // len(COLORS) % 2],
            label=line,
        )
    axes.set_title(TITLES.get(measure, measure.replace("_", " ")), loc="left", fontsize=11)
    axes.set_xticks(range(len(study.points)), [f"{point:g}" for point in study.points])
    axes.set_xlabel(study.axis, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
