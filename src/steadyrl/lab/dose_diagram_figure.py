"""The figure of a diagram of two dials: borders against the dose of the second one."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steadyrl.lab.dose import Event, Runs
from steadyrl.lab.dose_diagram import DiagramStudy
from steadyrl.lab.dose_figure import PUBLISHED
from steadyrl.lab.dose_findings import Finding, dose_of_k3, mismatches
from steadyrl.lab.drawing import COLORS
from steadyrl.report.plots import save

APART = 0.06
"""Doublings of the second dose between the bars of two remedies."""

EVENTS = {
    Event.LOSES: "half of the runs lose score",
    Event.COLLAPSES: "half of the runs collapse",
}


def draw_diagram(study: DiagramStudy, runs: Runs, findings: Sequence[Finding], path: Path) -> Path:
    """The path of the figure: a panel for each event, a line of borders for each remedy."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    figure.suptitle(f"{study.title}. Bars: intervals of 95%", x=0.01, ha="left", fontsize=12)
    panels = figure.subplots(1, len(EVENTS), sharex=True, sharey=True)
    for axes, (event, title) in zip(panels, EVENTS.items(), strict=True):
        _draw_event(axes, study, [finding for finding in findings if finding.event is event])
        _draw_published(axes, study, runs)
        axes.set_title(title, loc="left", fontsize=11)
    panels[0].set_ylabel(fill(study.dials[0].axis, 40), fontsize=9)
    panels[0].legend(fontsize=8, frameon=False, loc="best")
    return save(figure, path)


def _draw_event(axes: Axes, study: DiagramStudy, findings: Sequence[Finding]) -> None:
    dials, doses = study.dials, study.diagram.doses
    first, last = dials[0].doses[0] / 2**0.5, dials[0].doses[-1] * 2**0.5
    remedies = list(dials[0].remedies)
    for number, remedy in enumerate(remedies):
        shift = 2 ** (APART * (number - (len(remedies) - 1) / 2))
        measured = [
            (dose * shift, *np.clip((f.border.low, f.border.dose, f.border.high), first, last))
            for dose, dial in zip(doses, dials, strict=True)
            for f in findings
            if f.dial is dial and f.remedy == remedy and f.outcomes
        ]
        if not measured:
            continue
        places, low, middle, high = np.array(measured).T
        axes.plot(places, middle, "o-", color=COLORS[number], markersize=4, label=remedy)
        axes.vlines(places, low, high, color=COLORS[number], linewidth=2.2)
        for edge, marker in ((first, "v"), (last, "^")):
            beyond = places[middle == edge]
            axes.plot(
                beyond, np.full_like(beyond, edge), marker, color=COLORS[number], markersize=9
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(doses[0] / 2**0.5, doses[-1] * 2**0.5)
    axes.set_ylim(first, last)
    axes.set_xticks(doses, [f"{dose:g}" for dose in doses])
    ticks = dials[0].doses[::2]
    axes.set_yticks(ticks, [f"{dose:.3g}" for dose in ticks])
    axes.minorticks_off()
    axes.set_xlabel(study.diagram.axis, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _draw_published(axes: Axes, study: DiagramStudy, runs: Runs) -> None:
    """Where a dose has the mismatch of published systems, in each column, or who lies below all."""
    columns = [mismatches(dial, runs) for dial in study.dials]
    least = min((at.k3 for column in columns for at in column), default=0)
    below = []
    for name, k3 in PUBLISHED.items():
        found = [
            (dose, place)
            for dose, column in zip(study.diagram.doses, columns, strict=True)
            if (place := dose_of_k3(column, k3)) is not None
        ]
        if not found:
            below += [f"{name} (k3 {k3:g})"] if k3 < least else []
            continue
        doses, places = zip(*found, strict=True)
        axes.plot(doses, places, ":", marker="x", color="#999999", linewidth=0.8, markersize=4)
        axes.annotate(
            f"{name},\nk3 {k3:g}",
            (doses[-1], places[-1]),
            xytext=(12, -3),
            textcoords="offset points",
            fontsize=7,
            color="#666666",
        )
    if below:
        label = f"below: {', '.join(below)}"
        axes.text(0.01, 0.01, label, transform=axes.transAxes, fontsize=7, color="#666666")
