"""The figure of the test of the rule: what a run lost, against what was measured early."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steadyrl.analysis.remedy_rule import Measured, Origin, RemedyRule
from steadyrl.lab.dose import LOSS
from steadyrl.lab.drawing import COLORS
from steadyrl.lab.rule import ORIGINS, SMALLEST
from steadyrl.lab.rule_predictions import Prediction
from steadyrl.report.plots import mark_log_axis, save

LABELS = {
    Origin.ROUTING: "mismatch k3",
    Origin.NUMERICS: "mismatch k3",
    Origin.STALENESS: "staleness k3",
    Origin.STEP_SIZE: "staleness k3 / mini-batches squared",
}


def draw_rule(title: str, rule: RemedyRule, found: Sequence[Prediction], path: Path) -> Path:
    """The path of the figure: a panel for each dial, a dot for each run.

    Hollow dots are predicted to lose; dotted lines are the limits under the remedies they name.
    """
    dials = list(dict.fromkeys(each.dial for each in found)) or ["no run"]
    rows = -(-len(dials) // 2)
    figure = Figure(figsize=(11, 0.8 + 3.4 * rows), layout="constrained")
    figure.suptitle(f"{title}. Hollow: predicted to lose", x=0.01, ha="left", fontsize=12)
    panels = list(figure.subplots(rows, 2, squeeze=False).flat)
    for dial, axes in zip(dials, panels, strict=False):
        _draw_dial(axes, rule, [each for each in found if each.dial == dial], dial)
    for axes in panels[len(dials) :]:
        axes.set_axis_off()
    return save(figure, path)


def _draw_dial(axes: Axes, rule: RemedyRule, found: Sequence[Prediction], dial: str) -> None:
    axes.set_title(dial, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    if not found:
        return
    origin = ORIGINS[dial]
    axes.axhline(-LOSS, color="#999999", linewidth=0.8)
    for number, remedy in enumerate(dict.fromkeys(each.remedy for each in found)):
        of_remedy = [each for each in found if each.remedy == remedy]
        values = [_value(origin, each.measured) for each in of_remedy]
        axes.scatter(
            np.maximum(values, SMALLEST),
            [each.change for each in of_remedy],
            s=18,
            edgecolors=COLORS[number],
            facecolors=[COLORS[number] if each.keeps else "none" for each in of_remedy],
            linewidths=0.9,
            label=remedy,
        )
    axes.set_xscale("log")
    for remedy, limit in rule.limits.get(origin, {}).items():
        if 0 < limit < np.inf:
            axes.axvline(limit, color="#999999", linewidth=0.9, linestyle=":")
            axes.annotate(
                f" {remedy}",
                (limit, 1.0),
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                ha="right",
                fontsize=7,
                color="#666666",
            )
    mark_log_axis(axes.xaxis)
    axes.set_xlabel(LABELS[origin], fontsize=9)
    axes.set_ylabel("final score less controls", fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def _value(origin: Origin, values: Measured) -> float:
    """The value of an origin, whatever origin the rule takes the mismatch for."""
    if origin in (Origin.ROUTING, Origin.NUMERICS):
        return values.mismatch
    if origin is Origin.STALENESS:
        return values.staleness
    return values.staleness / values.mini_batches**2
