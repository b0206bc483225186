"""`steadyrl diagnose`."""

import json

from rich.console import Console

from steadyrl.cli.log_options import LogOptions
from steadyrl.cli.options import read_options
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.run_data import read_run


class DiagnoseOptions(LogOptions):
    """Say whether and when a run collapsed or is about to, why, and what to change."""

    json_: bool = False
    """Print JSON instead of text."""


def diagnose_command(arguments: list[str], console: Console) -> None:
    """Prints the diagnosis."""
    options = read_options(DiagnoseOptions, arguments, program="steadyrl diagnose")
    foreign = options.foreign_run()
    if foreign is not None:
        name, values, text = foreign.name, foreign.to_values(), foreign.to_text()
    else:
        run = read_run(RunFolder(options.run))
        diagnosis = run.diagnose()
        name, values, text = run.name, diagnosis.to_values(), diagnosis.to_text(run.name)
    if options.json_:
        text = json.dumps({"run": name, **values}, indent=2)
    console.print(text, markup=False, soft_wrap=True)
