"""`steadyrl train`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.base.errors import UserError
from steadyrl.cli.foreign_options import refuse_foreign_options, refuse_launcher
from steadyrl.cli.interruption import command_line, translate_interruptions
from steadyrl.cli.live_view import closing_line, view_for
from steadyrl.cli.open_run import open_run
from steadyrl.cli.option_help import options_help
from steadyrl.cli.options import (
    Option,
    override,
    own_options,
    refuse_words,
    split_options,
    without_help,
)
from steadyrl.cli.push import HubOptions, push_after_training
from steadyrl.cli.recipes import described_run
from steadyrl.policies.model_settings import Pretrained
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
--algorithm.objective gspo chooses another variant of a block, with defaults of
its own; --algorithm.objective.clip-low 1e-4 sets one of them; --cold-start none
leaves that block out. --help shows the settings of the variants that are named
beside it.

--resume goes on with a run that was interrupted, to the same bits. --steps N
extends it, or a finished one. What decides what a run learns stays; these may
change: {changeable}.
Data files that have changed since the run read them are refused, unless
--accept-changed-data is given."""

PROGRAM = "steadyrl train"


class TrainOptions(HubOptions):
    """Options of the command itself, beside the settings of the run."""

    out: Path | None = None
    """The run folder to write; none: runs/RECIPE."""

    published: PublishedName | None = None
    """Objective, correction, advantage and aggregation as published under this name. Options of
    single settings come on top."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        assert self.out is not None  # `described` fills it in
        return self.out


class ResumeOptions(HubOptions):
    """Options of a resume, beside the settings that may change."""

    resume: Path
    """The run folder to go on with."""

    accept_changed_data: bool = False
    """Go on although data files have changed since the run read them."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.resume


def train_command(arguments: list[str], console: Console) -> None:
    """Trains, and closes with the score before and after and the report's path."""
    if arguments and arguments[0] in ("-h", "--help"):
        console.print(HELP.format(changeable=_changeable()), markup=False)
        return
    refuse_launcher(os.environ)
    resumes = any(argument.partition("=")[0] == "--resume" for argument in arguments)
    taken: tuple[RunConfig, TrainOptions | ResumeOptions] = (
        resumed(arguments) if resumes else described(arguments)
    )
    config, options = taken
    options.check_hub()
    with translate_interruptions(["train", *arguments], options.folder), view_for(console) as view:
        if isinstance(options, ResumeOptions):
            before = len(RunFolder(options.folder).read_metrics())
            accepts = options.accept_changed_data
            folder = resume_run(
                options.folder, [view], view, config=config, accept_changed_data=accepts
            )
            if len(folder.read_metrics()) == before:
                note_finished(folder, config, console)
        else:
            folder = start_run(config, options.folder, [view], view)
    _close(folder, console)
    push_after_training(folder, options, console)


def note_finished(folder: RunFolder, config: RunConfig, console: Console) -> None:
    """Says that nothing was left to do, and how the run is extended."""
    longer = ["train", "--resume", str(folder.path), "--steps", str(max(1, 2 * config.steps))]
    text = f"All {config.steps} steps were taken already. Extend it with: {command_line(longer)}"
    console.print(text, markup=False, soft_wrap=True)


def resumed(arguments: list[str]) -> tuple[RunConfig, ResumeOptions]:
    """The configuration of the run that a command line resumes, with its changes, and its options.

    Raises:
        UserError: there is no run, or the settings are not valid.
    """
    words, options = split_options(arguments)
    own, changes = own_options(ResumeOptions, options, program=PROGRAM)
    if words:
        raise UserError(
            f"{words[0]} and --resume are both given. A resumed run keeps its own configuration: "
            f"leave {words[0]} out."
        )
    refuse_foreign_options([option.written for option in changes])
    folder = open_run(own.resume)
    config = read_config(folder)
    if not changes:
        return config, own
    values, left = override(RunConfig, config.model_dump(), changes)
    refuse_words(left, PROGRAM)
    return parse(values, str(folder.config)), own


def _changeable() -> str:
    names = [f"--{name.replace('_', '-')}" for name in CHANGEABLE]
    return fill(", ".join(names), 79, subsequent_indent="  ", break_on_hyphens=False).strip()


def described(arguments: list[str]) -> tuple[RunConfig, TrainOptions]:
    """The configuration of the run that a command line describes, and the command's own options.

    Prints help and exits where it is asked for.

    Raises:
        UserError: it names no recipe, or one whose settings are not valid.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UserError(
            "'steadyrl train' needs a recipe's name or a YAML file first. 'steadyrl recipes' lists "
            "them; --resume RUN goes on with a run."
        )
    name, *rest = arguments
    rest, wants_help = without_help(rest)
    refuse_foreign_options(rest)
    program = f"{PROGRAM} {name}"
    words, options = split_options(rest)
    own, options = own_options(TrainOptions, options, program=program)
    recipe = described_run(name)
    values, left = override(RunConfig, _taking(own, recipe, options), options)
    refuse_words([*words, *left], program)
    if wants_help:
        print(_help(program, values))
        raise SystemExit(0)
    config = parse(values, name)
    _check_cold_start(config, recipe, name)
    return config, own.model_copy(update={"out": own.out or Path("runs") / Path(name).stem})


def _help(program: str, values: Mapping[str, Any]) -> str:
    lines = [f"usage: {program} [options]", "", *options_help(TrainOptions)]
    return "\n".join([*lines, *options_help(RunConfig, values)]).rstrip()


def _check_cold_start(config: RunConfig, recipe: RunConfig, name: str) -> None:
    """A checkpoint that takes the place of a small model is not taught from nothing."""
    if config.cold_start is None or isinstance(recipe.model, Pretrained):
        return
    if isinstance(config.model, Pretrained):
        raise UserError(
            f"{name} begins with {config.cold_start.steps} steps of supervised learning, made "
            f"for a model that knows nothing yet. To train {config.model.path} without them, add "
            "--cold-start none, or take a recipe that has none."
        )


def _taking(own: TrainOptions, recipe: RunConfig, options: Sequence[Option]) -> dict[str, Any]:
    """The values of `recipe` with the changes that the command's own options stand for."""
    values = recipe.model_dump()
    if own.published is not None:
        chosen = [option for option in options if option.path == ("algorithm",)]
        values, _ = override(RunConfig, values, chosen)
        values["algorithm"] |= PUBLISHED[own.published].model_dump(
            include={"objective", "correction", "advantage", "aggregation", "constant_length"}
        )
    return values


def _close(folder: RunFolder, console: Console) -> None:
    line = closing_line(folder.read_metrics())
    if line is not None:
        console.print(line, soft_wrap=True)
    console.print(f"report: {write_report(folder)}", markup=False, soft_wrap=True)
