"""How far engine and trainer are apart, by engine numerics, with and without replayed routes.

    python benchmarks/replay_mismatch.py runs/demo-... --out benchmarks/results/replay_mismatch.json

One batch is sampled from the run's last checkpoint for each of the engine's numerics, and scored by
the trainer on the same tokens twice: routed live, and with the engine's routes (R3).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from steadyrl.algorithms.protocol import Experience
from steadyrl.objectives import mismatch_diagnostics, routing_disagreement
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import Routing
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.records.token_batch import TokenBatch
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig, from_yaml
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import latest_checkpoint, load_checkpoint


@dataclass(frozen=True)
class Options:
    """Measure the mismatch of a run's last checkpoint."""

    run: tyro.conf.Positional[Path]
    """The run folder."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def measure(config: RunConfig, checkpoint: Path, numerics: Numerics) -> list[dict[str, Any]]:
    """One row for live and one for replayed routing, on the same tokens."""
    engine = config.engine.model_copy(update={"numerics": numerics})
    assembly = Assembly.of(config.model_copy(update={"engine": engine}))
    load_checkpoint(checkpoint, assembly.learner)
    assembly.engine.load_weights(assembly.learner.weights(), assembly.learner.policy_version)
    experience: Experience = assembly.stages[-1].algorithm.collect(0, assembly.engine)
    batch = experience.mini_batches[0]
    policy, temperature = assembly.learner.policy, config.sampling.temperature
    return [
        {"numerics": numerics.value, "replay": name, **compare(policy, batch, temperature, replay)}
        for name, replay in (("none", None), ("r3", batch.rollout_routing))
    ]


@torch.no_grad()
def compare(
    policy: Policy, batch: TokenBatch, temperature: float, replay: Routing | None
) -> dict[str, float]:
    """Mismatch and disagreement between the engine's record and the trainer's scores."""
    scores = policy.score(
        batch.tokens,
        batch.attention_mask,
        batch.loss_mask,
        temperature=temperature,
        replay=replay,
        record_routing=True,
    )
    assert batch.rollout_logprobs is not None
    assert batch.rollout_routing is not None
    assert scores.routing is not None
    mask, feeding = batch.loss_mask, batch.loss_mask[:, 1:]
    disagreement = routing_disagreement(
        batch.rollout_routing.experts[:, :-1][feeding], scores.routing.experts[:, :-1][feeding]
    )
    return {
        "tokens": int(mask.sum()),
        **mismatch_diagnostics(batch.rollout_logprobs[mask], scores.logprobs[mask]),
        "routing_disagreement": disagreement.mean,
        "routing_disagreement_any_layer": disagreement.any_layer,
    }


def main(options: Options) -> None:
    """Prints the table and writes it."""
    folder = RunFolder(options.run)
    config = from_yaml(folder.config)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise SystemExit(f"{options.run} has no checkpoint.")
    rows = [row for numerics in Numerics for row in measure(config, checkpoint, numerics)]
    print(
        f"{'numerics':<10}{'replay':<8}{'k3':>10}{'F(2)':>10}{'disagreement':>14}{'any layer':>11}"
    )
    for row in rows:
        print(
            f"{row['numerics']:<10}{row['replay']:<8}{row['mismatch_kl_k3']:>10.2e}"
            f"{row['extreme_token_fraction']:>10.2e}{row['routing_disagreement']:>14.4f}"
            f"{row['routing_disagreement_any_layer']:>11.4f}"
        )
    if options.out is not None:
        content = {"checkpoint": checkpoint.name, "rows": rows, **manifest(config.seed)}
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
