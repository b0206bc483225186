"""The model whose runs replay could change most, by a rule stated before it was measured.

    python benchmarks/choice_of_experts.py --out benchmarks/results/choice_of_experts.json

Every candidate has the demo's active width: experts that are chosen together are 128 wide. Each is
cold-started as in the studies and trained for a few rollouts of eight gradient steps, at the edge
of stability and without replay. Then `steadyrl mismatch` accounts for log(pi_theta / mu_old) over
the last of them. Chosen is the candidate at which routing and stale routing have the largest share
of its variance, in the mean over both orders and the seeds of the sampling.
"""

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mismatch_sources import Row, account, percent, span

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.lab.catalog import EDGE
from steadyrl.lab.running import end_with_parent
from steadyrl.lab.study import changed
from steadyrl.lab.world import world
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.execution import start_run
from steadyrl.run.manifest import manifest
from steadyrl.training.journal import JournalSettings

ACTIVE_WIDTH = 128
MINI_BATCHES = 8
ROLLOUTS = 6
"""The learning rate is warmed up in the first two."""

CANDIDATES = tuple(
    SmallMoE(experts=experts, experts_per_token=chosen, expert_width=ACTIVE_WIDTH // chosen)
    for experts, chosen in ((8, 2), (32, 2), (32, 4), (64, 8))
)


class Options(Settings):
    """Measure what replay could remove, for models of different experts."""

    seed: int = 100
    """Of the runs: none that a study makes claims on."""

    tasks: int = 256
    samplings: int = 3
    """How often the answers are sampled."""

    processes: int = 1
    work: Path | None = None
    """Where the run folders stay; if not given, nowhere."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def measured(model: SmallMoE, folder: Path, options: Options) -> list[Row]:
    """One account for each sampling of the run of `model`, which is made if it is missing."""
    torch.set_num_threads(1)
    old, new = (f"rl-{rollout:06d}" for rollout in (ROLLOUTS - 1, ROLLOUTS))
    if not (RunFolder(folder).checkpoints / new).exists():
        config = world(
            Numerics.FP8,
            mini_batches=MINI_BATCHES,
            model=model,
            learning_rate=EDGE,
            gradient_steps=ROLLOUTS * MINI_BATCHES,
        )
        journal = JournalSettings(checkpoint_every=1, keep_checkpoints=2)
        start_run(
            changed(config, seed=options.seed, journal=journal.model_dump(), trackers=["jsonl"]),
            folder,
        )
    return [
        account(folder, old, new, Numerics.FP8, sampling, options.tasks)
        for sampling in range(options.samplings)
    ]


def replayable(rows: Sequence[Row]) -> list[float]:
    """The share of routing and stale routing, for each sampling and order."""
    return [
        order["routing"]["share"] + order["stale_routing"]["share"]
        for row in rows
        for order in row["orders"].values()
    ]


def described(model: SmallMoE) -> str:
    """As `2 of 8`."""
    return f"{model.experts_per_token} of {model.experts}"


def summary(model: SmallMoE, rows: Sequence[Row]) -> dict[str, Any]:
    """What the rule and its readers look at."""
    shares = replayable(rows)
    return {
        "model": described(model),
        "replayable": sum(shares) / len(shares),
        "replayable_span": span(shares, percent),
        "k3": {
            name: span([whole["kl_k3"] for whole in wholes], "{:.1e}".format)
            for name, wholes in (
                ("live", [row["whole"] for row in rows]),
                *((replay, [row["replayed"][replay] for row in rows]) for replay in ("r2", "r3")),
            )
        },
        "rows": list(rows),
    }


def main(options: Options) -> None:
    """Prints a row for each candidate and the choice, and writes the numbers."""
    with tempfile.TemporaryDirectory() as place:
        work = options.work or Path(place)
        folders = [work / described(model).replace(" ", "-") for model in CANDIDATES]
        with ProcessPoolExecutor(
            options.processes, get_context("spawn"), initializer=end_with_parent
        ) as pool:
            accounts = pool.map(
                measured, CANDIDATES, folders, [options] * len(CANDIDATES), chunksize=1
            )
            summaries = []
            for model, rows in zip(CANDIDATES, accounts, strict=True):
                summaries.append(summary(model, rows))
                shown = summaries[-1]
                k3 = ", ".join(f"{name} {value}" for name, value in shown["k3"].items())
                print(f"{shown['model']:<10}{shown['replayable_span']:>12}  k3: {k3}", flush=True)
    choice = max(summaries, key=lambda one: one["replayable"])["model"]
    print(f"Replay can remove most with {choice}.")
    if options.out is not None:
        content = {**manifest(options.seed), "choice": choice, "candidates": summaries}
        write_atomically(options.out, json.dumps(content) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
