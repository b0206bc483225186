"""`steadyrl preflight`."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from steadyrl.analysis.safety import Finding, Verdict
from steadyrl.base.errors import UserError
from steadyrl.base.wording import duration, short_number
from steadyrl.cli.console import make_console
from steadyrl.cli.foreign_options import refuse_foreign_options
from steadyrl.cli.live_view import view_for
from steadyrl.cli.open_run import open_run
from steadyrl.cli.option_help import options_help
from steadyrl.cli.options import override, own_options, refuse_words, split_options, without_help
from steadyrl.cli.recipes import described_run
from steadyrl.preflight import PreflightSettings, Report, preflight
from steadyrl.run.config import RunConfig, parse
from steadyrl.run.execution import saved_config
from steadyrl.run.memory_check import gigabytes
from steadyrl.training.checkpoint import latest_checkpoint

PROGRAM = "steadyrl preflight"

HELP = """\
usage: steadyrl preflight RECIPE|CONFIG|RUN [options]

Says whether a setup is safe to train: memory, the distance of engine and
trainer by source, whether synced weights arrive, what right and wrong answers
earn, how much signal there is, and what a step costs. It plans memory, samples
a short rollout, takes one update that is thrown away, and writes nothing.

RECIPE is a recipe's name, CONFIG a YAML file, RUN the folder of a run, whose
last checkpoint is measured. Every setting of a run is an option, as in
'steadyrl train'.

The exit code is 1 if a verdict is unsafe, 0 if all are safe or to be watched,
and 2 for a setup that a run would refuse.
"""

PIPE_WIDTH = 132
"""Columns of tables that are written to a pipe or a file."""

STYLES = {Verdict.SAFE: "green", Verdict.WATCH: "yellow", Verdict.UNSAFE: "bold red"}


class PreflightOptions(PreflightSettings):
    """Options of the command, in addition to the settings of the run."""

    json_: bool = False
    """Print JSON instead of tables."""


def preflight_command(arguments: list[str], console: Console) -> int:
    """Prints a row for each question. The exit code is 1 where a verdict is unsafe."""
    arguments, wants_help = without_help(arguments)
    if wants_help and (not arguments or arguments[0].startswith("-")):
        print("\n".join([HELP, *options_help(PreflightOptions)]).rstrip())
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            f"'{PROGRAM}' needs a recipe, a YAML file or the folder of a run first. "
            f"'{PROGRAM} --help' shows the options."
        )
    options, config, checkpoint = _configured(arguments[0], arguments[1:], wants_help=wants_help)
    settings = PreflightSettings(prompts=options.prompts, samples=options.samples)
    with view_for(make_console(stderr=True)) as view:
        report = preflight(config, settings, checkpoint=checkpoint, progress=view)
    if options.json_:
        console.print(json.dumps(report.to_values(), indent=2), markup=False, soft_wrap=True)
    else:
        _show(report, config, console)
    return int(report.verdict is Verdict.UNSAFE)


def _configured(
    name: str, arguments: Sequence[str], *, wants_help: bool
) -> tuple[PreflightOptions, RunConfig, Path | None]:
    """The command's options, the configuration, and a run's last checkpoint.

    Prints help and exits if requested.
    """
    refuse_foreign_options(arguments)
    words, options = split_options(arguments)
    own, options = own_options(PreflightOptions, options, program=PROGRAM)
    checkpoint = None
    if Path(name).is_dir():
        folder = open_run(Path(name))
        checkpoint = latest_checkpoint(folder)
        base = saved_config(folder)
    else:
        base = described_run(name)
    values, left = override(RunConfig, base.model_dump(), options)
    refuse_words([*words, *left], PROGRAM)
    if wants_help:
        lines = [HELP, *options_help(PreflightOptions), *options_help(RunConfig, values)]
        print("\n".join(lines).rstrip())
        raise SystemExit(0)
    return own, parse(values, name), checkpoint


def _show(report: Report, config: RunConfig, console: Console) -> None:
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    console.print(table_of_findings(report.findings))
    console.print(_table_of_memory(report))
    lines = [*report.notes]
    if report.cost is not None:
        lines.append(_cost(report, config))
    lines.append(f"Verdict: {report.verdict}.")
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def table_of_findings(findings: Sequence[Finding]) -> Table:
    """A row for each question, with its verdict, limits and their source."""
    table = Table(box=SIMPLE, title="Preflight", title_justify="left", title_style="bold")
    for name in ("question", "measured", "verdict", "limits", "source"):
        table.add_column(name, justify="right" if name == "measured" else "left")
    for finding in findings:
        value = "-" if finding.value is None else short_number(finding.value)
        verdict, limit = finding.verdict, finding.limit
        detail = f"\n[dim]{finding.detail.replace('[', '(')}" if finding.detail else ""
        table.add_row(
            f"{limit.title}{detail}",
            value,
            "not measured" if verdict is None else f"[{STYLES[verdict]}]{verdict}",
            limit.text or "-",
            f"[dim]{limit.source.replace('[', '(')}",
        )
    return table


def _table_of_memory(report: Report) -> Table:
    plan = report.plan
    table = Table(box=SIMPLE, title="Memory plan, GB", title_justify="left", title_style="bold")
    for name in ("held", "", "in the update", "", "in the rollout", ""):
        table.add_column(name, justify="left" if name else "right")
    columns = [list(part.items()) for part in (plan.held, plan.update, plan.rollout)]
    for number in range(max(map(len, columns))):
        cells = [column[number] if number < len(column) else None for column in columns]
        table.add_row(*[t for cell in cells for t in _cells(cell)])
    return table


def _cells(cell: tuple[str, int] | None) -> tuple[str, str]:
    return ("", "") if cell is None else (cell[0], gigabytes(cell[1]))


def _cost(report: Report, config: RunConfig) -> str:
    assert report.cost is not None
    cost = report.cost
    return (
        f"A step takes about {duration(cost.step_seconds)}, the run's {config.steps} steps and its "
        f"evaluations about {duration(cost.run_seconds)}. Peak memory of this preflight: "
        f"{gigabytes(cost.peak_bytes)} GB."
    )
