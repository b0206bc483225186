"""`steadyrl mismatch`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from transformers import PreTrainedTokenizerBase

from steadyrl.analysis.mismatch.passes import rescore
from steadyrl.analysis.mismatch.sources import MismatchSources, mismatch_sources
from steadyrl.base.errors import UserError
from steadyrl.base.progress import Progress
from steadyrl.base.settings import Settings
from steadyrl.cli.console import make_console
from steadyrl.cli.live_view import view_for
from steadyrl.cli.measured_model import is_checkpoint
from steadyrl.cli.mismatch_sample import sampled_batch
from steadyrl.cli.mismatch_tables import table_of_changes, table_of_flips
from steadyrl.cli.open_run import check_seed, open_run
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.cli.recipes import described_run
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.engines.engine_settings import ModelEngineSettings
from steadyrl.policies.lora import Adapter
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.policies.weights import copy_weights, saved_weights
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.components import load_policy, rounding_seed
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import saved_config
from steadyrl.run.manifest import as_json, manifest
from steadyrl.training.checkpoint import verify_checkpoint, whole_checkpoints


class MismatchOptions(Settings):
    """Show the sources of log(pi_theta / mu_old), by rescoring with one change at a time."""

    run: Annotated[Path, Positional()]
    """Run folder, or a standalone checkpoint with --recipe."""

    recipe: str | None = None
    """Recipe or YAML file with the tasks and settings for a standalone checkpoint."""

    out: Path | None = None
    """JSON file for the numbers. Default: mismatch.json in the run folder."""

    from_: str | None = None
    """Checkpoint of mu_old and pi_old. Default: the checkpoint kept before --to."""

    to: str | None = None
    """Checkpoint of pi_theta. Default: the run's last checkpoint."""

    numerics: Numerics | None = None
    """Numerics of the engine. Default: those of the run."""

    tasks: int = 64
    """Number of held-out tasks."""

    samples: int = 8
    """Episodes for each task."""

    seed: int = 0
    """Sampling seed."""


def mismatch_command(arguments: list[str], console: Console) -> None:
    """Prints the account of every source, and writes it into the run folder."""
    options = read_options(MismatchOptions, arguments, program="steadyrl mismatch")
    check_seed(options.seed)
    subject = _subject(options)
    with view_for(make_console(stderr=True)) as view:
        sources, updates = _measured(subject.config, options, subject.old, subject.new, view)
    numerics = _engine_of(subject.config).numerics.value
    if subject.out is not None:
        names = {"from": subject.begin, "to": subject.end, "updates": updates}
        content = {**names, "numerics": numerics, **asdict(sources), **manifest(options.seed)}
        write_atomically(subject.out, as_json(content))
    lines = [
        f"{numerics} engine with the weights of {subject.begin}, {sources.tokens} tokens.",
        f"pi_theta has the weights of {subject.end}, {updates} updates later."
        if subject.old != subject.new
        else f"No staleness: pi_theta has the weights of {subject.end} too.{subject.kept}",
    ]
    if not sources.flips:
        lines.append("No routing: the model has no routers whose choices can be replayed.")
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    console.print(table_of_changes(sources))
    if sources.flips:
        console.print(table_of_flips(sources))
    if subject.out is not None:
        console.print(f"numbers: {subject.out}", markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """The models to measure and their settings."""

    config: RunConfig
    begin: str
    end: str
    old: Path | None = None
    """The run's checkpoint whose weights are those of pi_old; None: the model's own."""

    new: Path | None = None
    kept: str = ""
    """A sentence that lists the run's checkpoints."""

    out: Path | None = None


def _subject(options: MismatchOptions) -> _Subject:
    """The run or the checkpoint that the options name.

    Raises:
        UserError: there is none, or the options do not fit it.
    """
    if is_checkpoint(str(options.run)) and not (options.run / "run.json").is_file():
        return _checkpoint(options)
    if options.recipe is not None:
        raise UserError(
            f"--recipe is {options.recipe!r}, but {options.run} is not a standalone checkpoint: a "
            "run has its own settings. Remove --recipe."
        )
    folder = open_run(options.run)
    kept = _kept(folder)
    old, new = chosen_checkpoints(kept, options.from_, options.to)
    return _Subject(
        config=_with_numerics(saved_config(folder), options.numerics),
        begin=old.name,
        end=new.name,
        old=old,
        new=new,
        kept=f" Checkpoints kept: {', '.join(checkpoint.name for checkpoint in kept)}.",
        out=options.out or folder.path / "mismatch.json",
    )


def _checkpoint(options: MismatchOptions) -> _Subject:
    """A standalone checkpoint, with the settings of a recipe."""
    if options.recipe is None:
        raise UserError(
            f"{options.run} is a standalone checkpoint and defines no tasks. Add --recipe and the "
            "name of a recipe, or a YAML file."
        )
    if options.from_ is not None or options.to is not None:
        raise UserError(
            f"--from and --to name checkpoints of a run, but {options.run} is a standalone "
            "checkpoint. Remove them."
        )
    recipe = _with_numerics(described_run(options.recipe), options.numerics)
    values = recipe.model_dump() | {"model": Pretrained(path=str(options.run)).model_dump()}
    config = RunConfig.model_validate(values | {"cold_start": None, "seed": options.seed})
    name = options.run.resolve().name
    return _Subject(config=config, begin=name, end=name, out=options.out)


def chosen_checkpoints(kept: Sequence[Path], old: str | None, new: str | None) -> tuple[Path, Path]:
    """The checkpoints of pi_old and pi_theta among those `kept`, oldest first.

    Raises:
        UserError: one is not kept, or they are in the wrong order.
    """
    last = len(kept) - 1 if new is None else _index(kept, "--to", new)
    first = max(last - 1, 0) if old is None else _index(kept, "--from", old)
    if first > last:
        raise UserError(
            f"--from {kept[first].name} is later than --to {kept[last].name}. Swap them."
        )
    return kept[first], kept[last]


def _index(kept: Sequence[Path], option: str, name: str) -> int:
    names = [path.name for path in kept]
    if name not in names:
        raise UserError(
            f"{option} is {name!r}, which is not kept. Choose one of {', '.join(names)}."
        )
    return names.index(name)


def _kept(folder: RunFolder) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    kept = whole_checkpoints(folder)
    if not kept:
        raise UserError(f"{folder.path} has no checkpoint yet. Let it run to its first one.")
    return kept


def _engine_of(config: RunConfig) -> ModelEngineSettings:
    """The settings of the engine, whose arithmetic is rebuilt here.

    Raises:
        UserError: its arithmetic is not that of this process.
    """
    if not isinstance(config.engine, ModelEngineSettings):
        raise UserError(
            f"The arithmetic of the engine {config.engine.name!r} cannot be taken apart. Measure a "
            "run of the engine 'local'."
        )
    return config.engine


def _with_numerics(config: RunConfig, numerics: Numerics | None) -> RunConfig:
    if numerics is None:
        return config
    engine = config.engine.model_copy(update={"numerics": numerics})
    return config.model_copy(update={"engine": engine})


def _measured(
    config: RunConfig,
    options: MismatchOptions,
    old: Path | None,
    new: Path | None,
    progress: Progress,
) -> tuple[MismatchSources, int]:
    """The account of a sample, and the optimizer steps between the two checkpoints."""
    tokenizer, batch = sampled_batch(
        config,
        old,
        tasks=options.tasks,
        samples=options.samples,
        seed=options.seed,
        progress=progress,
    )
    progress.begin("rescoring")
    old_policy, old_version = _policy_of(config, old, tokenizer)
    new_policy, new_version = (
        (None, old_version) if new == old else _policy_of(config, new, tokenizer)
    )
    settings = _engine_of(config)
    engine = engine_policy(
        old_policy,
        settings.numerics,
        settings.weight_scaling,
        head_dtype=settings.head_dtype,
        rounding=settings.rounding,
        seed=rounding_seed(config),
    )
    rescored = rescore(
        batch,
        engine=engine,
        old=old_policy,
        new=new_policy,
        temperature=config.sampling.temperature,
        positions=config.learner.micro_batch_tokens,
    )
    return mismatch_sources(rescored), new_version - old_version


def _policy_of(
    config: RunConfig, checkpoint: Path | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[Policy, int]:
    """The policy that a run saved in `checkpoint` or began with, and its version."""
    version = 0 if checkpoint is None else verify_checkpoint(checkpoint)
    policy, _ = load_policy(config, tokenizer)
    if checkpoint is None:
        return policy, version
    if config.learner.lora is None:
        copy_weights(saved_weights(checkpoint, policy.head_dtype), policy.model.state_dict())
    else:
        Adapter(policy.model, config.learner.lora, seed=0).read(checkpoint)
    return policy, version
