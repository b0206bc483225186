"""`steadyrl evaluate`."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from steadyrl.cli.open_run import open_run
from steadyrl.cli.options import read_options
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from steadyrl.records.errors import UserError
from steadyrl.run.assembly import Assembly
from steadyrl.run.execution import saved_config
from steadyrl.training.checkpoint import latest_checkpoint, load_checkpoint


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a run's last checkpoint on held-out tasks, as the run does if not told otherwise."""

    run: tyro.conf.Positional[Path]
    """The run folder."""

    split: Split | None = None
    """Which tasks; None: those of the run's own evaluations."""

    tasks: int | None = None
    """How many of them; None: as in the run."""

    samples: int | None = None
    """Episodes for each task; None: as in the run."""

    seed: int = 0
    """Of the sampling."""


def evaluate_command(arguments: list[str], console: Console) -> None:
    """Prints avg@k and pass@k."""
    options = read_options(EvaluateOptions, arguments, program="steadyrl evaluate")
    folder = open_run(options.run, seed=options.seed)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"{options.run} has no checkpoint yet. Let it run to its first one.")
    config = saved_config(folder)
    settings = wanted(options, config.evaluation)
    with closing(Assembly.of(config)) as assembly:
        load_checkpoint(checkpoint, assembly.learner)
        assembly.engine.load_weights(assembly.learner.weights(), assembly.learner.policy_version)
        accuracy = measure_accuracy(
            settings,
            environment=assembly.environment,
            engine=assembly.engine,
            tokenizer=assembly.learner.policy.tokenizer,
            sampling=config.sampling,
            seed=options.seed,
        )
    accuracy.require_measured()
    lines = told(checkpoint.name, accuracy, asked=settings.tasks)
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def wanted(options: EvaluateOptions, own: EvaluationSettings) -> EvaluationSettings:
    """The run's `own` settings with what the options change, so that scores can be compared."""
    asked = {name: getattr(options, name) for name in ("split", "tasks", "samples")}
    given = {name: value for name, value in asked.items() if value is not None}
    return EvaluationSettings(**own.model_dump() | given)


def told(name: str, accuracy: Accuracy, *, asked: int) -> list[str]:
    """What was measured of the checkpoint of that name on as many of the tasks `asked` as are."""
    k = accuracy.samples
    chance = accuracy.pass_at(k)
    solved = "not measured" if chance is None else f"{chance:.3f}"
    lines = [
        f"{name}, {len(accuracy.groups)} {accuracy.split.value} tasks: "
        f"avg@{k} {accuracy.score:.3f}, pass@{k} {solved}"
    ]
    if accuracy.failed_fraction:
        lines.append(
            f"The environment failed in {accuracy.failed_fraction:.1%} of the episodes, which are "
            f"left out; pass@{k} is of tasks in which it never did."
        )
    if shortfall := accuracy.shortfall(asked):
        lines.append(f"{shortfall[0].upper()}{shortfall[1:]}.")
    return lines
