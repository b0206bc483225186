"""`steadyrl train`."""

import os
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any

import tyro
from rich.console import Console

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.base.errors import UserError
from steadyrl.cli.foreign_options import refuse_foreign_options, refuse_launcher
from steadyrl.cli.interruption import command_line, stops_told
from steadyrl.cli.kinds import choose_kinds
from steadyrl.cli.live_view import closing_line, view_for
from steadyrl.cli.open_run import open_run
from steadyrl.cli.options import read_known_options, read_options
from steadyrl.cli.recipes import described_run
from steadyrl.policies.loading import Pretrained
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report
from steadyrl.run.config import RunConfig, parse
from steadyrl.run.execution import read_config, resume_run, start_run
from steadyrl.run.resumption import CHANGEABLE

HELP = """\
usage: steadyrl train RECIPE [options]
       steadyrl train --resume RUN [--steps N] [options]

RECIPE is a recipe's name ('steadyrl recipes' lists them) or a YAML file.
Every setting is an option: 'steadyrl train RECIPE --help' shows them all.
Another name, as in --algorithm.objective.name grpo, brings another kind
with settings of its own; --cold-start none leaves that block out. --help shows
the settings of the kinds that are named beside it.

--resume goes on with a run that was interrupted, to the same bits. --steps N
extends it, or a finished one. What decides what a run learns stays; these may
change: {changeable}.
Data files that have changed since the run read them are refused, unless
--accept-changed-data is given."""

ACCEPT = "--accept-changed-data"


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """What changes several settings of a recipe at once. Options of single settings come on top."""

    published: PublishedName | None = None
    """Objective, correction, advantage and aggregation as published under this name."""

    checkpoint: Annotated[str | None, tyro.conf.arg(aliases=["--model"])] = None
    """Train this Hugging Face checkpoint instead of the recipe's model."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Shortcuts):
    """Run a recipe. Every setting of the recipe is an option."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]

    out: Path | None = None
    """The run folder to write; runs/RECIPE if not given."""


@dataclass(frozen=True, kw_only=True)
class ExtendOptions:
    """Go on with a run. Settings that do not decide what it learns may be changed."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that was interrupted."""

    resume: Path
    """The run folder."""


def train_command(arguments: list[str], console: Console) -> None:
    """Trains, and closes with the score before and after and the report's path."""
    if arguments and arguments[0] in ("-h", "--help"):
        console.print(HELP.format(changeable=_changeable()), markup=False)
        return
    refuse_launcher(os.environ)
    resumes = any(argument.partition("=")[0] == "--resume" for argument in arguments)
    accepts = resumes and ACCEPT in arguments
    told = [argument for argument in arguments if not (accepts and argument == ACCEPT)]
    path, config = resumed(told) if resumes else described(told)[::-1]
    with stops_told(["train", *arguments], path), view_for(console) as view:
        if resumes:
            before = len(RunFolder(path).read_metrics())
            folder = resume_run(path, [view], view, config=config, accept_changed_data=accepts)
            if len(folder.read_metrics()) == before:
                note_finished(folder, config, console)
        else:
            folder = start_run(config, path, [view], view)
    _close(folder, console)


def note_finished(folder: RunFolder, config: RunConfig, console: Console) -> None:
    """Says that nothing was left to do, and how the run is extended."""
    longer = ["train", "--resume", str(folder.path), "--steps", str(max(1, 2 * config.steps))]
    text = f"All {config.steps} steps were taken already. Extend it with: {command_line(longer)}"
    console.print(text, markup=False, soft_wrap=True)


def resumed(arguments: list[str]) -> tuple[Path, RunConfig]:
    """The run folder that a command line resumes, and its configuration with the options' changes.

    Raises:
        UserError: there is no run, or the settings are not valid.
    """
    path = read_known_options(ResumeOptions, arguments, program="steadyrl train").resume
    rest = _without_option(arguments, "--resume")
    if rest and not rest[0].startswith("-"):
        raise UserError(
            f"{rest[0]} and --resume are both given. A resumed run keeps its own configuration: "
            f"leave {rest[0]} out."
        )
    refuse_foreign_options(rest)
    folder = open_run(path)
    default = ExtendOptions(config=read_config(folder))
    if not rest:
        return path, default.config
    options = read_options(ExtendOptions, rest, program="steadyrl train", default=default)
    return path, parse(options.config.model_dump(), str(folder.config))


def _changeable() -> str:
    names = [f"--{name.replace('_', '-')}" for name in CHANGEABLE]
    return fill(", ".join(names), 79, subsequent_indent="  ", break_on_hyphens=False).strip()


def _without_option(arguments: list[str], option: str) -> list[str]:
    rest, skip = [], False
    for argument in arguments:
        if not skip and argument.partition("=")[0] != option:
            rest.append(argument)
        skip = argument == option
    return rest


def described(arguments: list[str]) -> tuple[RunConfig, Path]:
    """The configuration and the run folder that a command line describes.

    Raises:
        UserError: it names no recipe, or one whose settings are not valid.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            "'steadyrl train' needs a recipe's name or a YAML file first. 'steadyrl recipes' lists "
            "them; --resume RUN goes on with a run."
        )
    name, *rest = arguments
    refuse_foreign_options(rest)
    program = f"steadyrl train {name}"
    recipe = described_run(name)
    shortcuts = read_known_options(Shortcuts, rest, program=program)
    start, rest = choose_kinds(_taking(shortcuts, recipe), rest, name)
    default = TrainOptions(config=start)
    options = read_options(TrainOptions, rest, program=program, default=default)
    config = parse(options.config.model_dump(), name)
    _check_checkpoint(shortcuts.checkpoint, config, name)
    return config, options.out or Path("runs") / Path(name).stem


def _check_checkpoint(checkpoint: str | None, config: RunConfig, name: str) -> None:
    """It is what is trained, and is not taught from nothing."""
    if checkpoint is None:
        return
    if config.cold_start is not None:
        raise UserError(
            f"{name} begins with {config.cold_start.steps} steps of supervised learning, made "
            f"for a model that knows nothing yet. To train {checkpoint} without "
            "them, add --cold-start none, or take a recipe that has none."
        )
    trained = config.model.path if isinstance(config.model, Pretrained) else config.model.name
    if trained != checkpoint:
        raise UserError(
            f"--checkpoint is {checkpoint}, but another option makes {trained} the model. Leave "
            "one of the two out."
        )


def _taking(shortcuts: Shortcuts, recipe: RunConfig) -> dict[str, Any]:
    """The values of `recipe` with the changes that the shortcuts stand for."""
    values = recipe.model_dump()
    if shortcuts.published is not None:
        values["algorithm"] |= PUBLISHED[shortcuts.published].model_dump(
            include={"objective", "correction", "advantage", "aggregation", "constant_length"}
        )
    if shortcuts.checkpoint is not None:
        values["model"] = Pretrained(path=shortcuts.checkpoint).model_dump()
    return values


def _close(folder: RunFolder, console: Console) -> None:
    line = closing_line(folder.read_metrics())
    if line is not None:
        console.print(line, soft_wrap=True)
    console.print(f"report: {write_report(folder)}", markup=False, soft_wrap=True)
