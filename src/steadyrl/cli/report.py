"""`steadyrl report`."""

from pathlib import Path

from rich.console import Console

from steadyrl.cli.log_options import LogOptions
from steadyrl.cli.options import read_options
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_figure, write_report


class ReportOptions(LogOptions):
    """Write a run's report: one self-contained HTML file."""

    beside: tuple[Path, ...] = ()
    """Folders of other runs, whose held-out scores are drawn beside those of this one at equal
    numbers of sampled responses."""

    figure: Path | None = None
    """Also draw the four main curves into this .png or .svg file."""


def report_command(arguments: list[str], console: Console) -> None:
    """Writes the report and says where."""
    options = read_options(ReportOptions, arguments, program="steadyrl report")
    run = options.foreign_run() or RunFolder(options.run)
    report = write_report(run, [RunFolder(path) for path in options.beside])
    console.print(f"report: {report}", markup=False, soft_wrap=True)
    if options.figure is not None:
        path = write_figure(run, options.figure)
        console.print(f"figure: {path}", markup=False, soft_wrap=True)
