"""`steadyrl` and its commands."""

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version

from pydantic import ValidationError
from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.base.plugins import registered
from steadyrl.cli.console import make_console
from steadyrl.cli.interruption import Stopped, handle_sigterm, translate_interruptions

USAGE = """\
steadyrl: reinforcement learning of language models that does not collapse

  steadyrl recipes [NAME]           list the recipes, or print one as YAML
  steadyrl train RECIPE [options]   train a recipe or a YAML configuration
  steadyrl train --resume RUN       resume an interrupted run, or extend it
  steadyrl preflight RECIPE|RUN     say whether a setup is safe to train
  steadyrl plan RECIPE --gpus N     plan memory and step time on a cluster, such as 64xH100
  steadyrl simulate RECIPE --gpus N simulate bounds of staleness and shares of engines
  steadyrl evaluate RUN [options]   score runs and checkpoints on held-out tasks
  steadyrl serve CHECKPOINT|RUN     serve a model by OpenAI's API, and record sessions as tokens
  steadyrl live CONFIG              serve, store sessions with feedback, and learn from them
  steadyrl report RUN|LOG           write the report as one HTML file
  steadyrl diagnose RUN|LOG         say whether and why a run collapsed
  steadyrl mismatch RUN [options]   show where log(pi_theta / mu_old) comes from
  steadyrl compare-dumps A [B]      say from any framework's dumps why engine and trainer differ
  steadyrl upcycle CHECKPOINT       turn a dense checkpoint into a Mixture-of-Experts one
  steadyrl merge RUN --out FOLDER   add a run's LoRA adapter to its base model, and save it
  steadyrl consolidate RUN          write a sharded checkpoint as one model (--out FOLDER)
  steadyrl push RUN --to REPO       upload a run's checkpoint to the hub, with a model card
  steadyrl study [NAME] [options]   run a paper's figure or a study of your own

Every command takes --help; --version prints the version."""

COMMANDS = (
    "train",
    "preflight",
    "plan",
    "simulate",
    "evaluate",
    "serve",
    "live",
    "report",
    "recipes",
    "diagnose",
    "mismatch",
    "compare-dumps",
    "upcycle",
    "merge",
    "consolidate",
    "push",
)

COMMAND_GROUP = "steadyrl.commands"
"""Entry points under which packages add commands: a name, and its function of arguments and
console."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns the exit code: 0, or the command's own; 2 for input that cannot be used and faults of
    the disk; 128 and the signal's number where a signal or a closed output ended it.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console, errors = make_console(), make_console(stderr=True)
    try:
        with handle_sigterm(), translate_interruptions(arguments):
            code = _run(arguments, console)
            sys.stdout.flush()
            return code
    except (UserError, ValidationError) as error:
        from steadyrl.run.config_errors import describe

        text = describe(error) if isinstance(error, ValidationError) else str(error)
        errors.print(f"steadyrl: {text}", markup=False, soft_wrap=True)
        return 2
    except Stopped as stop:
        if isinstance(stop.__cause__, BrokenPipeError):
            _let_go_of_the_output()
        if stop.text:
            errors.print(f"steadyrl: {stop.text}", markup=False, soft_wrap=True)
        return stop.code


def _let_go_of_the_output() -> None:
    """Discards output buffered for a closed pipe, which would fail at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str], console: Console) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        console.print(USAGE, markup=False)
    elif arguments[0] in ("-V", "--version", "version"):
        console.print(f"steadyrl {version('steadyrl')}", markup=False)
    else:
        return _command(arguments[0])(arguments[1:], console) or 0
    return 0


def command_names() -> list[str]:
    """The commands, those that packages add after our own."""
    return [*COMMANDS, *sorted(registered(COMMAND_GROUP))]


def _command(name: str) -> Callable[[list[str], Console], int | None]:
    """The function of a command. It is imported only now: models take seconds to import."""
    if name in COMMANDS:
        module = name.replace("-", "_")
        command: Callable[[list[str], Console], int | None] = getattr(
            import_module(f"steadyrl.cli.{module}"), f"{module}_command"
        )
        return command
    added = registered(COMMAND_GROUP)
    if name in added:
        return added[name].load()
    names = command_names()
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"There is no command {name!r}.{hint} The commands are {', '.join(names[:-1])} and "
        f"{names[-1]}."
    )


if __name__ == "__main__":
    sys.exit(main())
