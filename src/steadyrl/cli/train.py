"""`steadyrl train`."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.cli.live_view import LiveView, scores, view_for
from steadyrl.cli.recipes import find_recipe
from steadyrl.policies.loading import Pretrained
from steadyrl.records.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report
from steadyrl.run.config import RunConfig, parse
from steadyrl.run.execution import resume_run, start_run


@dataclass(frozen=True)
class TrainOptions:
    """Run a recipe. Every setting of the recipe is an option."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]

    out: Path | None = None
    """The run folder to write; runs/RECIPE if not given."""

    algorithm: PublishedName | None = None
    """Objective, advantage and aggregation as published under this name."""

    checkpoint: str | None = None
    """Train this Hugging Face checkpoint instead of the recipe's model."""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that was interrupted."""

    resume: Path
    """The run folder."""


def train_command(arguments: list[str], console: Console) -> None:
    """Trains, and closes with the score before and after and the report's path."""
    if "--resume" in arguments:
        path = tyro.cli(ResumeOptions, args=arguments, prog="steadyrl train").resume
        with ExitStack() as stack:
            folder = resume_run(path, [_view(stack, console)])
    else:
        config, path = _described(arguments)
        with ExitStack() as stack:
            folder = start_run(config, path, [_view(stack, console)])
    _close(folder, console)


def _described(arguments: list[str]) -> tuple[RunConfig, Path]:
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            "'steadyrl train' needs a recipe's name or a YAML file first. 'steadyrl recipes' lists "
            "them; --resume RUN goes on with a run."
        )
    name, *rest = arguments
    options = tyro.cli(
        TrainOptions,
        default=TrainOptions(config=find_recipe(name)),
        args=rest,
        prog=f"steadyrl train {name}",
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )
    changes = options.config.model_dump()
    if options.algorithm is not None:
        changes["policy_gradient"] |= PUBLISHED[options.algorithm].model_dump(
            include={"objective", "advantage", "aggregation", "constant_length"}
        )
    if options.checkpoint is not None:
        changes["model"] = Pretrained(path=options.checkpoint).model_dump()
    return parse(changes, name), options.out or Path("runs") / Path(name).stem


def _view(stack: ExitStack, console: Console) -> object:
    view = view_for(console)
    return stack.enter_context(view) if isinstance(view, LiveView) else view


def _close(folder: RunFolder, console: Console) -> None:
    measured = scores(folder.read_metrics())
    if measured:
        console.print(f"held-out score: {measured[0]:.3f} before, {measured[-1]:.3f} after")
    console.print(f"report: {write_report(folder)}", markup=False, soft_wrap=True)
