"""`steadyrl` and its commands."""

import sys
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from rich.console import Console

from steadyrl.records.errors import UserError

USAGE = """\
steadyrl: reinforcement learning of language models that does not collapse

  steadyrl recipes [NAME]              the recipes; one recipe as YAML, to edit and train
  steadyrl train RECIPE [options]      run a recipe, or the YAML file of a configuration
  steadyrl train --resume RUN          go on with a run that was interrupted
  steadyrl evaluate RUN [options]      measure a run's last checkpoint on held-out tasks
  steadyrl report RUN                  write RUN/report.html
  steadyrl diagnose RUN [--json]       say whether and why a run collapsed, and what to change
  steadyrl mismatch RUN [options]      show where log(pi_theta / mu_old) comes from
  steadyrl study [NAME] [options]      the papers' figures: runs, verdicts, pictures

Every command takes --help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 for input that cannot be used."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, emoji=False)
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(USAGE, markup=False)
        return 0
    name, *rest = arguments
    try:
        _command(name)(rest, console)
    except (UserError, ValidationError) as error:
        from steadyrl.run.config import describe

        text = describe(error) if isinstance(error, ValidationError) else str(error)
        errors = Console(stderr=True, highlight=False, emoji=False)
        errors.print(f"steadyrl: {text}", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        again = "train --resume RUN" if name == "train" else " ".join(arguments)
        Console(stderr=True, highlight=False, emoji=False).print(
            f"steadyrl: stopped. Go on with: steadyrl {again}", markup=False, soft_wrap=True
        )
        return 130
    return 0


def _command(name: str) -> Callable[[list[str], Console], None]:
    """The function of a command. It is imported only now: models take seconds to import."""
    if name == "train":
        from steadyrl.cli.train import train_command

        return train_command
    if name == "evaluate":
        from steadyrl.cli.evaluate import evaluate_command

        return evaluate_command
    if name == "report":
        from steadyrl.cli.report import report_command

        return report_command
    if name == "recipes":
        from steadyrl.cli.recipes import recipes_command

        return recipes_command
    if name == "diagnose":
        from steadyrl.cli.diagnose import diagnose_command

        return diagnose_command
    if name == "mismatch":
        from steadyrl.cli.mismatch import mismatch_command

        return mismatch_command
    if name == "study":
        from steadyrl.cli.study import study_command

        return study_command
    raise UserError(
        f"There is no command {name!r}. The commands are train, evaluate, report, recipes, "
        "diagnose, mismatch and study."
    )


if __name__ == "__main__":
    sys.exit(main())
