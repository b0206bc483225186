"""`steadyrl diagnose`."""

import json
from pathlib import Path
from typing import Annotated

from rich.console import Console

from steadyrl.analysis import diagnose
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.run_data import read_run


class DiagnoseOptions(Settings):
    """Say whether and when a run collapsed or is about to, why, and what to change."""

    run: Annotated[Path, Positional()]
    """The run folder. The run may still be going on."""

    json_: bool = False
    """Print JSON instead of text."""


def diagnose_command(arguments: list[str], console: Console) -> None:
    """Prints the diagnosis."""
    options = read_options(DiagnoseOptions, arguments, program="steadyrl diagnose")
    run = read_run(RunFolder(options.run))
    diagnosis = diagnose(run.stages, run.settings)
    text = diagnosis.to_text(run.name)
    if options.json_:
        text = json.dumps({"run": run.name, **diagnosis.to_values()}, indent=2)
    console.print(text, markup=False, soft_wrap=True)
