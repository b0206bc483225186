"""`steadyrl report`."""

from pathlib import Path
from typing import Annotated

from rich.console import Console

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_figure, write_report


class ReportOptions(Settings):
    """Write a run's report: one self-contained HTML file."""

    run: Annotated[Path, Positional()]
    """The run folder."""

    beside: tuple[Path, ...] = ()
    """Folders of other runs, whose held-out scores are drawn beside those of this one at equal
    numbers of sampled responses."""

    figure: Path | None = None
    """Also draw the four main curves into this .png or .svg file."""


def report_command(arguments: list[str], console: Console) -> None:
    """Writes the report and says where."""
    options = read_options(ReportOptions, arguments, program="steadyrl report")
    folder = RunFolder(options.run)
    report = write_report(folder, [RunFolder(path) for path in options.beside])
    console.print(f"report: {report}", markup=False, soft_wrap=True)
    if options.figure is not None:
        path = write_figure(folder, options.figure)
        console.print(f"figure: {path}", markup=False, soft_wrap=True)
