"""The figure of a study of doses: every run's score, and the border under every remedy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steadyrl.lab.dose import LOSS, Dial, DoseStudy, Event, Runs
from steadyrl.lab.dose_findings import Finding, dose_of_k3, mismatches
from steadyrl.lab.drawing import COLORS
from steadyrl.lab.measures import final_score
from steadyrl.report.plots import save

APART = 0.07
"""Doublings of the dose between the dots of two remedies at one dose."""


PUBLISHED = {"30B, FP8": 1.5e-3, "FP8 that harms": 0.06}
"""Mismatch k3 of published systems, marked where a dose has as much: arXiv:2512.01374, and miles
(`docs/preflight.md` has more)."""


def draw_doses(study: DoseStudy, runs: Runs, findings: Sequence[Finding], path: Path) -> Path:
    """The path of the figure: for each dial its runs above, and its borders below.

    A dial of which nothing was run yet is left out, unless that is true of all.
    """
    begun = [dial for dial in study.dials if _is_begun(study, dial, runs)] or study.dials
    columns = min(2, len(begun))
    rows = -(-len(begun) // columns)
    figure = Figure(figsize=(6.4 * columns, 5.0 * rows), layout="constrained")
    figure.suptitle(f"{study.title}. Bars: intervals of 95%", x=0.01, ha="left", fontsize=12)
    parts = figure.subfigures(rows, columns, squeeze=False)
    for dial, part in zip(begun, parts.flat, strict=False):
        above, below = part.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _draw_runs(above, study, dial, runs)
        _draw_borders(below, dial, [finding for finding in findings if finding.dial is dial])
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
    return save(figure, path)


def _is_begun(study: DoseStudy, dial: Dial, runs: Runs) -> bool:
    """Whether some remedy of `dial` was run."""
    return any(study.taken(dial, remedy, runs) for remedy in dial.remedies)


def _draw_runs(axes: Axes, study: DoseStudy, dial: Dial, runs: Runs) -> None:
    score = study.control_score(dial, runs)
    axes.axhline(score, color="#333333", linewidth=1.0, linestyle="--", label="dose 0")
    axes.axhline(score - LOSS, color="#999999", linewidth=0.8)
    for number, remedy in enumerate(dial.remedies):
        taken = study.taken(dial, remedy, runs)
        shift = 2 ** (APART * (number - (len(dial.remedies) - 1) / 2))
        collapsed = [Event.COLLAPSES.shown_by(run, score) for _, run in taken]
        axes.scatter(
            [dose * shift for dose, _ in taken],
            [final_score(run) for _, run in taken],
            s=16,
            edgecolors=COLORS[number],
            facecolors=["none" if fell else COLORS[number] for fell in collapsed],
            linewidths=0.9,
            label=remedy,
        )
    axes.set_ylim(0, 1.4 * score if score > 0 else 1)
    axes.set_title(dial.name, loc="left", fontsize=11, pad=16)
    axes.set_ylabel("final held-out score", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)
    _draw_mismatch(axes, dial, runs)


def _draw_mismatch(axes: Axes, dial: Dial, runs: Runs) -> None:
    """The k3 of each dose above the panel, and lines where it is that of published systems."""
    measured = mismatches(dial, runs)
    doses, k3 = [at.dose for at in measured], [at.k3 for at in measured]
    if len(set(k3)) < 2 or max(k3) < min(PUBLISHED.values()):
        return
    above: dict[str, Any] = {
        "transform": axes.get_xaxis_transform(),
        "fontsize": 7,
        "color": "#666666",
    }
    for dose, each in zip(doses, k3, strict=True):
        axes.text(dose, 1.01, f"{each:.1g}", ha="center", **above)
    axes.text(doses[-1], 1.06, "k3 of engine and trainer without a remedy", ha="right", **above)
    for name, value in PUBLISHED.items():
        if (place := dose_of_k3(measured, value)) is not None:
            axes.axvline(place, color="#999999", linewidth=0.8, linestyle=":")
            axes.text(place, 0.02, f" {name}", ha="left", va="bottom", **above)


def _draw_borders(axes: Axes, dial: Dial, findings: Sequence[Finding]) -> None:
    first, last = dial.doses[0] / 2**0.5, dial.doses[-1] * 2**0.5
    for place, finding in enumerate(findings):
        color = COLORS[list(dial.remedies).index(finding.remedy)]
        border = finding.border
        if not finding.outcomes:
            continue
        low, middle, high = np.clip((border.low, border.dose, border.high), first, last)
        axes.plot([low, high], [place, place], color=color, linewidth=2.2)
        if border.low < border.high:
            axes.plot([middle], [place], marker="o", color=color, markersize=4)
        if border.high == np.inf:
            axes.plot([last], [place], marker=">", color=color, markersize=6)
        if border.low == 0:
            axes.plot([first], [place], marker="<", color=color, markersize=6)
    axes.set_yticks(range(len(findings)), [f"{f.event}: {f.remedy}" for f in findings])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(first / 1.05, last * 1.05)
    axes.set_xticks(dial.doses, [f"{dose:.2g}" for dose in dial.doses])
    axes.minorticks_off()
    axes.set_xlabel(dial.axis, fontsize=9)
