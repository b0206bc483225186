"""`steadyrl report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report


@dataclass(frozen=True)
class ReportOptions:
    """Write a run's report: one self-contained HTML file."""

    run: tyro.conf.Positional[Path]
    """The run folder."""


def report_command(arguments: list[str], console: Console) -> None:
    """Writes the report and says where."""
    options = tyro.cli(ReportOptions, args=arguments, prog="steadyrl report")
    console.print(f"report: {write_report(RunFolder(options.run))}", markup=False, soft_wrap=True)
