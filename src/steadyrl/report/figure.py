"""The four curves by which a run is judged, as one picture for a page or a paper."""

from pathlib import Path

from steadyrl.analysis import text_for
from steadyrl.analysis.foreign import ForeignRun
from steadyrl.analysis.series import reinforcement
from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.plots import draw_panel, four_panels, save
from steadyrl.report.run_data import data_of

COLORS = ("#2d6ca8", "#c0502e", "#2d6ca8", "#2f8f6b")


def write_figure(run: RunFolder | ForeignRun, path: Path) -> Path:
    """The path of a picture of the run's reinforcement stage; its suffix says PNG, SVG or PDF.

    Raises:
        UserError: the run has no such stage yet, or matplotlib does not know the suffix.
    """
    stages = reinforcement(data_of(run).stages)
    if not stages:
        raise UserError(f"{run.path} has no reinforcement step yet. Let it run to its first one.")
    figure, panels = four_panels("step")
    for (name, axes), color in zip(panels.items(), COLORS, strict=True):
        series = stages[-1].series(name)
        if series is None:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center")
        else:
            draw_panel(axes, series, color, text_for(name).log_scale)
    return save(figure, path)
