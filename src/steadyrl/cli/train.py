"""`steadyrl train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.cli.kinds import choose_kinds
from steadyrl.cli.live_view import scores, view_for
from steadyrl.cli.options import read_known_options, read_options
from steadyrl.cli.recipes import find_recipe
from steadyrl.policies.loading import Pretrained
from steadyrl.records.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report
from steadyrl.run.config import RunConfig, parse
from steadyrl.run.execution import resume_run, start_run

HELP = """\
usage: steadyrl train RECIPE [options]
       steadyrl train --resume RUN

RECIPE is a recipe's name ('steadyrl recipes' lists them) or a YAML file.
Every setting is an option: 'steadyrl train RECIPE --help' shows them all.
Another name, as in --policy-gradient.objective.name grpo, brings another kind
with settings of its own; --cold-start none leaves that block out."""


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """What changes several settings of a recipe at once. Options of single settings come on top."""

    algorithm: PublishedName | None = None
    """Objective, correction, advantage and aggregation as published under this name."""

    checkpoint: Annotated[str | None, tyro.conf.arg(aliases=["--model"])] = None
    """Train this Hugging Face checkpoint instead of the recipe's model."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Shortcuts):
    """Run a recipe. Every setting of the recipe is an option."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]

    out: Path | None = None
    """The run folder to write; runs/RECIPE if not given."""


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that was interrupted."""

    resume: Path
    """The run folder."""


def train_command(arguments: list[str], console: Console) -> None:
    """Trains, and closes with the score before and after and the report's path."""
    if arguments and arguments[0] in ("-h", "--help"):
        console.print(HELP, markup=False)
        return
    if any(argument.partition("=")[0] == "--resume" for argument in arguments):
        path = read_options(ResumeOptions, arguments, program="steadyrl train").resume
        with view_for(console) as view:
            folder = resume_run(path, [view], view)
    else:
        config, path = described(arguments)
        with view_for(console) as view:
            folder = start_run(config, path, [view], view)
    _close(folder, console)


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
    program = f"steadyrl train {name}"
    recipe = find_recipe(name)
    shortcuts = read_known_options(Shortcuts, rest, program=program)
    start, rest = choose_kinds(_taking(shortcuts, recipe), rest, name)
    default = TrainOptions(config=start)
    options = read_options(TrainOptions, rest, program=program, default=default)
    config = parse(options.config.model_dump(), name)
    _check_checkpoint(shortcuts.checkpoint, config, name)
    _check_all_are_read(rest, config, name)
    return config, options.out or Path("runs") / Path(name).stem


def _check_all_are_read(options: list[str], config: RunConfig, name: str) -> None:
    """Experiential RL has these settings under its own name, with defaults of its own."""
    place = "--policy-gradient."
    for option in (option.replace("_", "-") for option in options):
        if config.erl is not None and option.startswith(place):
            wanted = option.partition("=")[0]
            raise UserError(
                f"{wanted} is given, but {name} trains by Experiential RL, which does not read it. "
                f"Use {wanted.replace(place, '--erl.')}."
            )


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
    if shortcuts.algorithm is not None:
        credit = values["policy_gradient" if recipe.erl is None else "erl"]
        credit |= PUBLISHED[shortcuts.algorithm].model_dump(
            include={"objective", "correction", "advantage", "aggregation", "constant_length"}
        )
    if shortcuts.checkpoint is not None:
        values["model"] = Pretrained(path=shortcuts.checkpoint).model_dump()
    return values


def _close(folder: RunFolder, console: Console) -> None:
    measured = scores(folder.read_metrics())
    if measured:
        console.print(f"held-out score: {measured[0]:.3f} before, {measured[-1]:.3f} after")
    console.print(f"report: {write_report(folder)}", markup=False, soft_wrap=True)
