"""`steadyrl simulate`."""

import json
import math
from collections.abc import Mapping

from pydantic import Field
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from steadyrl.base.errors import UserError
from steadyrl.base.wording import duration, short_number
from steadyrl.cli.option_help import options_help
from steadyrl.cli.options import without_help
from steadyrl.cli.plan import configured
from steadyrl.planning.plan import fitting_plans
from steadyrl.planning.settings import PlanSettings
from steadyrl.planning.simulated_cluster import Disturbances, simulated_cluster
from steadyrl.planning.simulation import SimulatedRun, simulate

PROGRAM = "steadyrl simulate"

HELP = """\
usage: steadyrl simulate RECIPE|CONFIG --gpus 64xH100 [options]

Simulates asynchronous training on devices that need not be here, for each
division between engines and learner that fits, and each bound of staleness.
The schedule is the one that paces real runs; times are those of 'steadyrl plan'.

Every setting of a run is an option, as in 'steadyrl train'.
"""

CLOSE = 1.05
"""A smaller bound is recommended if its step takes at most this many times as long."""


class SimulateOptions(PlanSettings):
    """Options of the command, in addition to the settings of the run."""

    bounds: tuple[int, ...] = (0, 1, 2, 4)
    """Bounds of staleness to try: versions by which a rollout's start may lag its update."""

    steps: int = Field(8, ge=2)
    """Number of simulated steps. The first quarter is not counted."""

    hours_between_failures: float | None = Field(None, gt=0)
    """Mean hours until one engine fails. None: no failures."""

    restart_seconds: float = Field(120.0, ge=0)
    """Seconds until a failed engine begins its sequences again."""

    slow_share: float = Field(0.0, ge=0.0, le=1.0)
    """Share of engines that are slow."""

    slowdown: float = Field(1.5, ge=1.0)
    """Times as long as others that a slow engine takes."""

    seed: int = Field(0, ge=0)
    """Seed of lengths and failures."""

    json_: bool = False
    """Print JSON instead of a table."""


def simulate_command(arguments: list[str], console: Console) -> None:
    """Prints seconds of a step by division and bound, and the recommended ones."""
    arguments, wants_help = without_help(arguments)
    if wants_help and (not arguments or arguments[0].startswith("-")):
        print("\n".join([HELP, *options_help(SimulateOptions)]).rstrip())
        return
    config, options = configured(arguments, SimulateOptions, PROGRAM, HELP, wants_help=wants_help)
    own = set(SimulateOptions.model_fields) - set(PlanSettings.model_fields)
    settings = PlanSettings.model_validate(options.model_dump(exclude=own))
    apart = [plan for plan in fitting_plans(config, settings) if not plan.layout.is_shared]
    if not apart:
        raise UserError(
            f"On {settings.gpus} only layouts fit in which engines and learner share devices, and "
            "so take turns. Give more devices."
        )
    fastest = min(apart, key=lambda plan: plan.time.total).layout.tensor_parallel
    runs: dict[tuple[str, int], SimulatedRun] = {}
    for plan in apart:
        if plan.layout.tensor_parallel != fastest:
            continue
        cluster = simulated_cluster(plan, _disturbances(options))
        for bound in options.bounds:
            runs[str(plan.layout), bound] = simulate(
                cluster, max_staleness=bound, steps=options.steps, seed=options.seed
            )
    if options.json_:
        rows = [
            {
                "layout": layout,
                "max_staleness": bound,
                "step_seconds": run.step_seconds,
                "learner_idle": run.learner_idle,
                "staleness": run.staleness,
                "failures": run.failures,
            }
            for (layout, bound), run in runs.items()
        ]
        console.print(json.dumps(rows, indent=2), markup=False, soft_wrap=True)
    else:
        _show(runs, console)


def _disturbances(options: SimulateOptions) -> Disturbances:
    hours = options.hours_between_failures
    return Disturbances(
        hours_between_failures=math.inf if hours is None else hours,
        restart_seconds=options.restart_seconds,
        slow_share=options.slow_share,
        slowdown=options.slowdown,
    )


def recommended(runs: Mapping[tuple[str, int], SimulatedRun]) -> tuple[str, int]:
    """The division and bound with the least staleness among those that are nearly the fastest."""
    fastest = min(run.step_seconds for run in runs.values())
    near = [key for key, run in runs.items() if run.step_seconds <= CLOSE * fastest]
    return min(near, key=lambda key: (key[1], runs[key].step_seconds))


def _show(runs: Mapping[tuple[str, int], SimulatedRun], console: Console) -> None:
    bounds = sorted({bound for _, bound in runs})
    table = Table(box=SIMPLE, title="Seconds of a step, and idle share of the learner")
    table.add_column("layout")
    for bound in bounds:
        table.add_column(f"bound {bound}", justify="right")
    for layout in dict.fromkeys(layout for layout, _ in runs):
        cells = [runs[layout, bound] for bound in bounds]
        table.add_row(
            layout,
            *[f"{short_number(run.step_seconds)} ({run.learner_idle:.0%})" for run in cells],
        )
    layout, bound = recommended(runs)
    run = runs[layout, bound]
    console.print(table)
    console.print(
        f"Recommended: {layout}, engine.max_staleness {bound}. A step takes about "
        f"{duration(run.step_seconds)}; groups lag their update by "
        f"{short_number(run.staleness)} versions in mean.",
        markup=False,
        soft_wrap=True,
    )
