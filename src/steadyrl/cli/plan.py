"""`steadyrl plan`."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from steadyrl.base.errors import UserError
from steadyrl.base.wording import count, duration, short_number
from steadyrl.cli.foreign_options import refuse_foreign_options
from steadyrl.cli.option_help import options_help
from steadyrl.cli.options import override, own_options, refuse_words, split_options, without_help
from steadyrl.cli.recipes import described_run
from steadyrl.planning.node_memory import main_memory
from steadyrl.planning.plan import RunPlan, plan_run
from steadyrl.planning.settings import PlanSettings
from steadyrl.run.config import RunConfig, parse

PROGRAM = "steadyrl plan"

HELP = """\
usage: steadyrl plan RECIPE|CONFIG --gpus 64xH100 [options]

Plans a run on devices that need not be here: memory of each device, bytes over
the network, seconds of a step and the part that limits it. Nothing is loaded or
downloaded; the model's config.json suffices. Times come from published peaks
and stated constants (docs/planning.md), and are estimates.

RECIPE is a recipe's name, CONFIG a YAML file. Every setting of a run is an
option, as in 'steadyrl train'.

The exit code is 2 where the run fits in no layout; the sentence names the
smallest change that makes it fit.
"""


Options = TypeVar("Options", bound=PlanSettings)


class PlanOptions(PlanSettings):
    """Options of the command, in addition to the settings of the run."""

    json_: bool = False
    """Print JSON instead of tables."""


def plan_command(arguments: list[str], console: Console) -> None:
    """Prints the plan of a run."""
    arguments, wants_help = without_help(arguments)
    if wants_help and (not arguments or arguments[0].startswith("-")):
        print("\n".join([HELP, *options_help(PlanOptions)]).rstrip())
        return
    config, options = configured(arguments, PlanOptions, PROGRAM, HELP, wants_help=wants_help)
    settings = PlanSettings.model_validate(options.model_dump(exclude={"json_"}))
    plan = plan_run(config, settings)
    if options.json_:
        console.print(json.dumps(to_values(plan), indent=2), markup=False, soft_wrap=True)
    else:
        show(plan, console)


def configured(
    arguments: Sequence[str], kind: type[Options], program: str, about: str, *, wants_help: bool
) -> tuple[RunConfig, Options]:
    """The configuration, and the command's own options.

    Prints help and exits if requested.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            f"'{program}' needs a recipe or a YAML file first. '{program} --help' shows the "
            "options."
        )
    name, *rest = arguments
    refuse_foreign_options(rest)
    words, options = split_options(rest)
    base = described_run(name)
    if wants_help:
        lines = [about, *options_help(kind), *options_help(RunConfig, base.model_dump())]
        print("\n".join(lines).rstrip())
        raise SystemExit(0)
    own, options = own_options(kind, options, program=program)
    values, left = override(RunConfig, base.model_dump(), options)
    refuse_words([*words, *left], program)
    return parse(values, name), own


def to_values(plan: RunPlan) -> dict[str, Any]:
    """The plan as values that JSON can represent: bytes and seconds."""
    time = plan.time
    return {
        "model": plan.shape.name,
        "parameters": plan.shape.parameters,
        "layout": str(plan.layout),
        "engine_devices": plan.layout.engine_devices,
        "learner_devices": plan.layout.learner_devices,
        "tensor_parallel": plan.layout.tensor_parallel,
        "sequences_per_engine": plan.slots,
        "memory": {
            kind: {
                "held": memory.held,
                "update": memory.update,
                "cache": memory.cache,
                "needed": memory.least,
                "usable": memory.usable,
            }
            for kind, memory in plan.devices.items()
        },
        "main_memory": main_memory(plan),
        "seconds": {
            "rollout": time.rollout,
            "scoring": time.scoring,
            "update": time.update,
            "sync": time.sync,
            "step": time.total,
        },
        "bottleneck": time.bottleneck,
        "tokens_per_second_and_device": plan.tokens_per_second,
        "network_bytes": {
            "sync_of_an_engine": plan.sync_bytes,
            "pass_of_the_update": plan.gathered_bytes,
            "routes_of_a_step": plan.route_bytes,
        },
    }


def show(plan: RunPlan, console: Console) -> None:
    """Prints the plan as tables and sentences."""
    work, time = plan.work, plan.time
    lines = [
        f"{plan.shape.name}: {plan.shape.parameters / 1e9:.3g} billion parameters, "
        f"{(plan.shape.active + plan.shape.head_weights) / 1e9:.3g} of them for each token.",
        f"Layout: {plan.layout}.",
        f"A step: {count(work.sequences, 'sequence')} of {short_number(work.lengths.mean)} sampled "
        f"tokens in mean and {work.lengths.maximum:,} at most; {count(work.updates, 'update')} on "
        f"{short_number(work.tokens)} tokens.",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    for kind, memory in plan.devices.items():
        console.print(_table_of_memory(kind, memory.held, memory.update, memory.cache))
        console.print(
            f"needs {memory.least / 1e9:.3g} of {memory.usable / 1e9:.3g} usable GB",
            markup=False,
        )
    main = main_memory(plan)
    parts = ", ".join(f"{size / 1e9:.3g} for {name}" for name, size in main.items())
    console.print(
        f"Main memory of the machine of the loop: {sum(main.values()) / 1e9:.3g} GB ({parts}).",
        markup=False,
        soft_wrap=True,
    )
    console.print(_table_of_seconds(plan))
    overlap = "the next rollout runs beside scoring and update" if time.overlaps else "one by one"
    lines = [
        f"A step takes about {duration(time.total)} ({overlap}), the run's {plan.config.steps} "
        f"steps about {duration(plan.config.steps * time.total)}. It is limited by the "
        f"{time.bottleneck}.",
        f"{short_number(plan.tokens_per_second)} trained tokens per second and device.",
        f"An engine decodes up to {count(plan.slots, 'sequence')} at the same time.",
        f"Network: {plan.sync_bytes / 1e9:.3g} GB to each engine at a sync, "
        f"{plan.gathered_bytes / 1e9:.3g} GB for each pass of the update, "
        f"{plan.route_bytes / 1e9:.3g} GB of routes for each step.",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def _table_of_memory(
    kind: str, held: dict[str, float], update: dict[str, float], cache: float
) -> Table:
    table = Table(box=SIMPLE, title=f"Device of the {kind}, GB", title_justify="left")
    table.add_column("held")
    table.add_column("", justify="right")
    table.add_column("in the update, or the rollout")
    table.add_column("", justify="right")
    left = list(held.items())
    right = [*update.items(), *([("keys and values, at most", cache)] if cache else [])]
    for row in range(max(len(left), len(right))):
        cells = [column[row] if row < len(column) else None for column in (left, right)]
        table.add_row(*[text for cell in cells for text in _cells(cell)])
    return table


def _cells(cell: tuple[str, float] | None) -> tuple[str, str]:
    return ("", "") if cell is None else (cell[0], f"{cell[1] / 1e9:.3g}")


def _table_of_seconds(plan: RunPlan) -> Table:
    table = Table(box=SIMPLE, title="Seconds of a step", title_justify="left")
    for name in ("rollout", "scoring", "update", "sync"):
        table.add_column(name, justify="right")
    time = plan.time
    table.add_row(*map(short_number, (time.rollout, time.scoring, time.update, time.sync)))
    return table
