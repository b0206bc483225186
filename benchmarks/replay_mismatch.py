"""How far engine and trainer are apart, by engine numerics, with and without replayed routes.

    python benchmarks/replay_mismatch.py runs/demo-... --out benchmarks/results/replay_mismatch.json

For the weights at the end of each stage and for each of the engine's numerics, tokens are sampled
and scored by the trainer twice: routed live, and with the engine's routes (R3).
"""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.learners.local import LocalLearner
from steadyrl.objectives import mismatch_diagnostics, routing_disagreement
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.records.token_batch import TokenBatch
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig, from_yaml
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import load_checkpoint, read_place, whole_checkpoints
from steadyrl.training.sampler import sample


class Options(Settings):
    """Measure the mismatch of a run's checkpoints."""

    run: Annotated[Path, Positional()]
    """The run folder."""

    rollouts: int = 8
    """Rollouts of the run's own size that are measured together."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def measure(
    config: RunConfig, checkpoint: Path, numerics: Numerics, rollouts: int
) -> list[dict[str, Any]]:
    """One row for live and one for replayed routing, on the same tokens."""
    engine = config.engine.model_copy(update={"numerics": numerics})
    assembly = Assembly.of(config.model_copy(update={"engine": engine}))
    load_checkpoint(checkpoint, assembly.learner)
    drive(assembly.engine.sync(assembly.learner.publish()))
    algorithm, sampled_by = assembly.stages[-1].algorithm, assembly.engine
    batches = [
        batch
        for rollout in range(rollouts)
        for mini_batch in algorithm.learn(
            drive(sample(algorithm, rollout, sampled_by))
        ).mini_batches
        for batch in mini_batch
    ]
    learner, temperature = assembly.learner, config.sampling.temperature
    assert isinstance(learner, LocalLearner)
    rows = []
    for replay in (False, True):
        tokens = [score(learner.policy, batch, temperature, replay=replay) for batch in batches]
        names = {"checkpoint": checkpoint.name, "numerics": numerics.value}
        rows.append(names | {"replay": "r3" if replay else "none"} | compare(tokens))
    return rows


@torch.no_grad()
def score(
    policy: Policy, batch: TokenBatch, temperature: float, *, replay: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities and experts of every loss token, in the engine and in the trainer."""
    assert batch.rollout_logprobs is not None
    assert batch.rollout_routing is not None
    scores = policy.score(
        batch.tokens,
        batch.attention_mask,
        batch.loss_mask,
        temperature=temperature,
        replay=batch.rollout_routing if replay else None,
        record_routing=True,
    )
    assert scores.routing is not None
    mask = batch.loss_mask
    feeding = torch.nn.functional.pad(mask[:, 1:], (0, 1))
    return (
        batch.rollout_logprobs[mask],
        scores.logprobs[mask],
        batch.rollout_routing.at(feeding),
        scores.routing.at(feeding),
    )


def compare(tokens: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """Mismatch and disagreement over all of `tokens`."""
    rollout_logprobs, logprobs, engine, trainer = (
        torch.cat(part) for part in zip(*tokens, strict=True)
    )
    disagreement = routing_disagreement(engine, trainer)
    return {
        "tokens": len(logprobs),
        **mismatch_diagnostics(rollout_logprobs, logprobs),
        "routing_disagreement": disagreement.mean,
        "routing_disagreement_any_layer": disagreement.any_layer,
    }


def last_checkpoints(folder: RunFolder) -> list[Path]:
    """The last checkpoint of each stage."""
    by_stage = {}
    for path in whole_checkpoints(folder):
        by_stage[read_place(path)[0]] = path
    return list(by_stage.values())


def main(options: Options) -> None:
    """Prints the table and writes it."""
    folder = RunFolder(options.run)
    config = from_yaml(folder.config)
    rows = [
        row
        for checkpoint in last_checkpoints(folder)
        for numerics in Numerics
        for row in measure(config, checkpoint, numerics, options.rollouts)
    ]
    print(f"{'weights':<19}{'numerics':<10}{'replay':<8}{'k3':>10}{'F(2)':>10}{'disagreement':>14}")
    for row in rows:
        print(
            f"{row['checkpoint']:<19}{row['numerics']:<10}{row['replay']:<8}"
            f"{row['mismatch_kl_k3']:>10.2e}{row['extreme_token_fraction']:>10.2e}"
            f"{row['routing_disagreement']:>14.4f}"
        )
    if options.out is not None:
        content = {"rows": rows, **manifest(config.seed)}
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
