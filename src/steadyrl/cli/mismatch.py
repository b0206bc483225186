"""`steadyrl mismatch`."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from steadyrl.analysis.mismatch.passes import rescore
from steadyrl.analysis.mismatch.sources import MismatchSources, mismatch_sources
from steadyrl.base.errors import UserError
from steadyrl.cli.mismatch_tables import table_of_changes, table_of_flips
from steadyrl.cli.open_run import check_seed, open_run
from steadyrl.cli.options import read_options
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.evaluation.accuracy import EvaluationSettings, measure_accuracy
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import padding_id
from steadyrl.policies.weights import copy_weights, saved_weights
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.records.token_batch import TokenBatch
from steadyrl.rollout.batching import token_batch
from steadyrl.run.assembly import Assembly, load_policy, rounding_seed
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import saved_config
from steadyrl.run.manifest import as_json, manifest
from steadyrl.training.checkpoint import load_checkpoint, verify_checkpoint, whole_checkpoints


@dataclass(frozen=True)
class MismatchOptions:
    """Show where log(pi_theta / mu_old) comes from, by rescoring with one change at a time."""

    run: tyro.conf.Positional[Path]
    """The run folder."""

    old: Annotated[str | None, tyro.conf.arg(name="from", metavar="CHECKPOINT")] = None
    """Whose weights sample and are those of pi_old; None: the checkpoint kept before --to."""

    new: Annotated[str | None, tyro.conf.arg(name="to", metavar="CHECKPOINT")] = None
    """Whose weights are those of pi_theta; None: the run's last checkpoint."""

    numerics: Numerics | None = None
    """What the engine computes in; None: what it does in the run."""

    tasks: int = 64
    """Held-out tasks that are sampled."""

    samples: int = 8
    """Episodes for each task."""

    seed: int = 0
    """Of the sampling."""


def mismatch_command(arguments: list[str], console: Console) -> None:
    """Prints the account of every source, and writes it into the run folder."""
    options = read_options(MismatchOptions, arguments, program="steadyrl mismatch")
    check_seed(options.seed)
    folder = open_run(options.run)
    kept = _kept(folder)
    old, new = chosen_checkpoints(kept, options.old, options.new)
    config = _with_numerics(saved_config(folder), options.numerics)
    sources, updates = _measured(config, options, old, new)
    numerics = config.engine.numerics.value
    path = folder.path / "mismatch.json"
    names = {"from": old.name, "to": new.name, "updates": updates, "numerics": numerics}
    write_atomically(path, as_json({**names, **asdict(sources), **manifest(options.seed)}))
    lines = [
        f"{numerics} engine with the weights of {old.name}, {sources.tokens} tokens.",
        f"pi_theta has the weights of {new.name}, {updates} updates later."
        if old != new
        else f"Staleness is absent: pi_theta has the weights of {new.name} too. Checkpoints kept: "
        f"{', '.join(checkpoint.name for checkpoint in kept)}.",
    ]
    if not sources.flips:
        lines.append("Routing is absent: the model has no routers whose choices can be replayed.")
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    console.print(table_of_changes(sources))
    if sources.flips:
        console.print(table_of_flips(sources))
    console.print(f"numbers: {path}", markup=False, soft_wrap=True)


def chosen_checkpoints(kept: Sequence[Path], old: str | None, new: str | None) -> tuple[Path, Path]:
    """The checkpoints of pi_old and pi_theta among those `kept`, oldest first.

    Raises:
        UserError: one is not kept, or they are in the wrong order.
    """
    last = len(kept) - 1 if new is None else _index(kept, "--to", new)
    first = max(last - 1, 0) if old is None else _index(kept, "--from", old)
    if first > last:
        raise UserError(
            f"--from {kept[first].name} is later than --to {kept[last].name}. Exchange them."
        )
    return kept[first], kept[last]


def _index(kept: Sequence[Path], option: str, name: str) -> int:
    names = [path.name for path in kept]
    if name not in names:
        raise UserError(f"{option} is {name!r}, which is not kept. Give one of {', '.join(names)}.")
    return names.index(name)


def _kept(folder: RunFolder) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    kept = whole_checkpoints(folder)
    if not kept:
        raise UserError(f"{folder.path} has no checkpoint yet. Let it run to its first one.")
    return kept


def _with_numerics(config: RunConfig, numerics: Numerics | None) -> RunConfig:
    if numerics is None:
        return config
    engine = config.engine.model_copy(update={"numerics": numerics})
    return config.model_copy(update={"engine": engine})


def _measured(
    config: RunConfig, options: MismatchOptions, old: Path, new: Path
) -> tuple[MismatchSources, int]:
    """The account of a sample, and the optimiser steps between the two checkpoints."""
    tokenizer, batch = _sampled(config, options, old)
    old_policy, old_version = _policy_of(config, old, tokenizer)
    new_policy, new_version = (
        (None, old_version) if new == old else _policy_of(config, new, tokenizer)
    )
    settings = config.engine
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
    config: RunConfig, checkpoint: Path, tokenizer: PreTrainedTokenizerBase
) -> tuple[Policy, int]:
    """The policy that a run saved in `checkpoint`, and its version."""
    version = verify_checkpoint(checkpoint)
    policy, _ = load_policy(config, tokenizer)
    copy_weights(saved_weights(checkpoint, policy.head_dtype), policy.model.state_dict())
    return policy, version


def _sampled(
    config: RunConfig, options: MismatchOptions, checkpoint: Path
) -> tuple[PreTrainedTokenizerBase, TokenBatch]:
    """The tokenizer, and answers to held-out tasks by the engine with weights of `checkpoint`."""
    assembly = Assembly.of(config)
    load_checkpoint(checkpoint, assembly.learner)
    drive(assembly.engine.sync(assembly.learner.publish()))
    with closing(assembly):
        measurement = measure_accuracy(
            EvaluationSettings(
                tasks=options.tasks, samples=options.samples, max_turns=config.evaluation.max_turns
            ),
            environment=assembly.environment,
            engine=assembly.engine,
            tokenizer=assembly.tokenizer,
            sampling=config.sampling,
            seed=options.seed,
        )
        accuracy = drive(measurement)
    batch = token_batch(
        accuracy.groups,
        [torch.zeros(len(group.trajectories)) for group in accuracy.groups],
        pad_token_id=padding_id(assembly.tokenizer),
    )
    return assembly.tokenizer, batch
