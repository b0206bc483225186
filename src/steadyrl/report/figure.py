"""The four curves by which a run is judged, as one picture for a page or a paper."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.series import Series, Stage
from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.curves import smoothed, smoothing_window, uses_log_axis
from steadyrl.report.log_axis import mark_log_axis
from steadyrl.report.run_data import read_run

PANELS = ("score", "mismatch_kl_k3", "reward", "entropy")
"""As in arXiv:2512.01374, figures 1 to 4."""

COLOURS = ("#2d6ca8", "#c0502e", "#2d6ca8", "#2f8f6b")


def write_figure(folder: RunFolder, path: Path) -> Path:
    """The path of a picture of the run's reinforcement stage; its ending says PNG, SVG or PDF.

    Raises:
        UserError: the run has no such stage yet, or matplotlib does not know the ending.
    """
    stages = [stage for stage in read_run(folder).stages if stage.name != "cold_start"]
    if not stages:
        raise UserError(
            f"{folder.path} has no reinforcement step yet. Let it run to its first one."
        )
    figure, panels = four_panels("step")
    for (name, axes), colour in zip(panels.items(), COLOURS, strict=True):
        _draw(axes, stages[-1], name, colour)
    return save(figure, path)


def four_panels(
    x_label: str, height: float = 5.2, names: tuple[str, str, str, str] = PANELS
) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure and its axes, by the metric that each is for."""
    figure = Figure(figsize=(10, height), layout="constrained")
    panels = dict(zip(names, figure.subplots(2, 2).flat, strict=True))
    for name, axes in panels.items():
        axes.set_title(text_for(name).title, loc="left", fontsize=11)
        axes.set_xlabel(x_label, fontsize=9)
        axes.tick_params(labelsize=9, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="y", color="#d8d8d8", linewidth=0.7)
    return figure, panels


def save(figure: Figure, path: Path) -> Path:
    """`path`, where the figure now is; its ending says PNG, SVG or PDF.

    Raises:
        UserError: there is no ending, or matplotlib does not know it.
    """
    if not path.suffix:
        raise UserError(f"{path} has no ending. Give the picture one: .png or .svg.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context({"svg.hashsalt": "steadyrl"}):  # equal figures make equal files
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, metadata=metadata)
    except ValueError as error:
        raise UserError(
            f"No picture can be written to {path}: {error}. Use .png or .svg."
        ) from error
    return path


def _draw(axes: Axes, stage: Stage, name: str, colour: str) -> None:
    text, series = text_for(name), stage.series(name)
    if series is None:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center")
        return
    on_log_axis = uses_log_axis(series, text.log_scale)
    if on_log_axis:
        axes.set_yscale("log")
    _draw_curve(axes, series, colour)
    if on_log_axis:
        mark_log_axis(axes)


def _draw_curve(axes: Axes, series: Series, colour: str) -> None:
    window = smoothing_window(len(series.steps))
    if window == 1:
        axes.plot(series.steps, series.values, color=colour, marker="o", markersize=4)
        return
    values = np.where(series.finite, series.values, np.nan)
    axes.plot(series.steps, values, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(series.steps, smoothed(series.values, window), color=colour, linewidth=1.8)
