"""`steadyrl evaluate`."""

from collections.abc import Sequence
from contextlib import closing
from itertools import takewhile

from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.base.progress import Progress
from steadyrl.base.settings import Settings
from steadyrl.cli.console import make_console
from steadyrl.cli.foreign_options import refuse_foreign_options
from steadyrl.cli.live_view import view_for
from steadyrl.cli.measured_model import MeasuredModel, settings_of
from steadyrl.cli.open_run import check_seed
from steadyrl.cli.option_help import options_help
from steadyrl.cli.options import override, own_options, refuse_words, split_options, without_help
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.registry import AnyEngine
from steadyrl.environments.protocol import Split
from steadyrl.environments.registry import AnyEnvironment
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.registry import AnyLearner
from steadyrl.records.intervals import mean_interval, with_interval
from steadyrl.run.config import RunConfig, parse

PROGRAM = "steadyrl evaluate"

HELP = """\
usage: steadyrl evaluate FOLDER [FOLDER ...] [options]

Measures avg@k and pass@k on held-out tasks. A FOLDER is a run, whose last
checkpoint is measured, or a checkpoint: a folder that
'AutoModelForCausalLM.from_pretrained' loads, or its name on the hub.

Tasks, sampling and engine are those of the first run among the folders, or of
the run in which the first checkpoint lies. Without any run, name the tasks:

  steadyrl evaluate CHECKPOINT --environment math --environment.path problems.jsonl

All folders are measured on the same tasks, and compared with the first one.
"""


class MeasuringSettings(Settings):
    """The tasks of an evaluation and its sampling settings."""

    environment: AnyEnvironment
    sampling: Sampling = Sampling()
    engine: AnyEngine = LocalEngineSettings()
    learner: AnyLearner = LocalLearnerSettings()


class EvaluateOptions(Settings):
    """Options of the command, in addition to the settings of tasks, sampling and engine."""

    split: Split | None = None
    """Split of the tasks. Default: as in the run."""

    tasks: int | None = None
    """Number of tasks. Default: as in the run."""

    samples: int | None = None
    """Episodes for each task. Default: as in the run."""

    seed: int = 0
    """Sampling seed."""


def evaluate_command(arguments: list[str], console: Console) -> None:
    """Prints avg@k and pass@k of each folder, and how they differ."""
    arguments, wants_help = without_help(arguments)
    names = list(takewhile(lambda word: not word.startswith("-"), arguments))
    if not names and not wants_help:
        raise UserError(
            "'steadyrl evaluate' needs the folder of a run or of a checkpoint first. "
            "'steadyrl evaluate --help' shows the options."
        )
    options, config = _configured(names, arguments[len(names) :], wants_help=wants_help)
    check_seed(options.seed)
    evaluation = choose_evaluation(options, config.evaluation)
    models = [MeasuredModel.at(name, config) for name in names]
    measured: list[Accuracy] = []
    for model in models:
        with view_for(make_console(stderr=True)) as view:
            measured.append(_measured(model, evaluation, options.seed, view))
        lines = describe(model.name, measured[-1], requested=evaluation.tasks)
        console.print("\n".join(lines), markup=False, soft_wrap=True)
    for model, accuracy in zip(models[1:], measured[1:], strict=True):
        line = compare(models[0].name, measured[0], model.name, accuracy)
        console.print(line, markup=False, soft_wrap=True)


def choose_evaluation(options: EvaluateOptions, own: EvaluationSettings) -> EvaluationSettings:
    """The run's `own` settings with what the options change, so that scores can be compared."""
    chosen = {name: getattr(options, name) for name in ("split", "tasks", "samples")}
    given = {name: value for name, value in chosen.items() if value is not None}
    return EvaluationSettings(**own.model_dump() | given)


def describe(name: str, accuracy: Accuracy, *, requested: int) -> list[str]:
    """A line with the results of the model `name` on up to `requested` tasks."""
    k = accuracy.samples
    chance = accuracy.pass_at(k)
    solved = "not measured" if chance is None else f"{chance:.3f}"
    lines = [
        f"{name}, {len(accuracy.groups)} {accuracy.split.value} tasks: "
        f"avg@{k} {with_interval(accuracy.score, accuracy.interval)}, pass@{k} {solved}"
    ]
    if accuracy.failed_fraction:
        lines.append(
            f"The environment failed in {accuracy.failed_fraction:.1%} of the episodes, which are "
            f"left out; pass@{k} is of tasks in which it never did."
        )
    if accuracy.failed_tasks:
        lines.append(
            f"{accuracy.failed_tasks} of {len(accuracy.groups)} tasks failed in every episode: "
            "they are not in the score."
        )
    if shortfall := accuracy.shortfall(requested):
        lines.append(f"{shortfall[0].upper()}{shortfall[1:]}.")
    return lines


def compare(first: str, before: Accuracy, second: str, after: Accuracy) -> str:
    """The difference of two scores, with a 95% interval over the tasks that both measure."""
    pairs = zip(before.task_scores, after.task_scores, strict=True)
    gains = [b - a for a, b in pairs if a is not None and b is not None]
    text = f"{second} against {first}: {after.score - before.score:+.3f}"
    interval = mean_interval(gains)
    if interval is None:
        return text
    ends = f"{interval.low:+.3f} to {interval.high:+.3f}"
    return f"{text} (95% interval {ends}, over {len(gains)} tasks)"


def _configured(
    names: Sequence[str], arguments: Sequence[str], *, wants_help: bool = False
) -> tuple[EvaluateOptions, RunConfig]:
    """The command's options, and the configuration under which models are measured.

    Prints help and exits if requested.
    """
    refuse_foreign_options(arguments)
    _, options = split_options(arguments)
    own, options = own_options(EvaluateOptions, options, program=PROGRAM)
    names_tasks = any(option.path[0] == "environment" for option in options)
    base = settings_of(names, names_tasks=names_tasks or wants_help).model_dump()
    measuring = {name: base[name] for name in MeasuringSettings.model_fields}
    values, left = override(MeasuringSettings, measuring, options)
    refuse_words(left, PROGRAM)
    if wants_help:
        lines = [HELP, *options_help(EvaluateOptions), *options_help(MeasuringSettings, values)]
        print("\n".join(lines).rstrip())
        raise SystemExit(0)
    return own, parse(base | values, "the options")


def _measured(
    model: MeasuredModel, evaluation: EvaluationSettings, seed: int, progress: Progress
) -> Accuracy:
    with closing(model.assemble(progress)) as assembly:
        progress.begin("evaluation")
        measurement = measure_accuracy(
            evaluation,
            environment=assembly.environment,
            engine=assembly.engine,
            tokenizer=assembly.tokenizer,
            sampling=model.config.sampling,
            seed=seed,
            progress=progress,
        )
        accuracy = drive(measurement)
    accuracy.require_measured()
    return accuracy
