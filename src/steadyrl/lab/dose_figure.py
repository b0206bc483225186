"""The figure of a dial: response to the dose, with each remedy's border."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from steadyrl.lab.borders import LOSS, Border
from steadyrl.lab.dose import CONTROL, DoseStudy, at
from steadyrl.lab.drawing import COLORS
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.records import RunRecord
from steadyrl.report.plots import save

PANELS = {
    "final_score": "final held-out score",
    "best_score": "best held-out score",
    "kept": "share of the best reward kept",
    "log10_mismatch": "log10 of the mismatch k3",
}


def draw_dose(
    study: DoseStudy,
    runs: Mapping[str, Mapping[int, RunRecord]],
    borders: Mapping[str, Border],
    path: Path,
) -> Path:
    """The path of the figure: mean over seeds with its 95% interval; borders in the first panel."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    figure.suptitle(
        f"{study.title}: mean of {len(study.seeds)} seeds and its 95% interval",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    panels = dict(zip(PANELS, figure.subplots(2, 2).flat, strict=True))
    for measure, axes in panels.items():
        _draw_panel(axes, study, runs, measure)
        axes.set_title(PANELS[measure], loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    control = np.mean([MEASURES["final_score"](run) for run in runs[CONTROL].values()])
    panels["final_score"].axhline(float(control) - LOSS, color="#999999", linewidth=0.8)
    for number, remedy in enumerate(study.remedies):
        border = borders.get(remedy)
        if border is not None and 0 < border.dose < np.inf:
            panels["final_score"].axvline(
                border.dose, color=COLORS[number], linestyle=":", linewidth=1.4
            )
    figure.supxlabel(study.dial, fontsize=10)
    handles, labels = panels["final_score"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return save(figure, path)


def _draw_panel(
    axes: Axes, study: DoseStudy, runs: Mapping[str, Mapping[int, RunRecord]], measure: str
) -> None:
    control = np.mean([MEASURES[measure](run) for run in runs[CONTROL].values()])
    axes.axhline(float(control), color="#333333", linewidth=1.0, linestyle="--", label=CONTROL)
    axes.set_xscale("log")
    axes.set_xticks(study.doses, [f"{dose:g}" for dose in study.doses])
    axes.minorticks_off()
    for number, remedy in enumerate(study.remedies):
        values = [
            np.array([MEASURES[measure](run) for run in runs[at(remedy, dose)].values()])
            for dose in study.doses
        ]
        means = [sample.mean() for sample in values]
        halves = [
            stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
            if len(sample) > 1
            else 0.0
            for sample in values
        ]
        axes.errorbar(
            study.doses,
            means,
            yerr=halves,
            color=COLORS[number],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.6,
            label=remedy,
        )
