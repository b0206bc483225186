"""How wrong the gradient is at each dose: a measure that needs no collapse, and no training.

    python benchmarks/dose_gradients.py

In the world of the doses after its cold start, the error of the gradient of MiniRL against that of
the expected reward of whole responses, with and without what corrects it: routing noise with live
routing and under R3, weight noise with importance weights and without, gradient steps since the
rollout with clipping and without. A dose at which the sample cannot tell a gradient from 0 is
left out, and printed. Writes `results/dose_gradients.json` here and
`docs/figures/dose_gradients.svg`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from first_order_error import as_rows, experience_of, sampled, scored
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steadyrl.analysis.first_order.probe import Estimator, sampled_errors
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.lab.dose_world import dose_world
from steadyrl.lab.drawing import COLORS
from steadyrl.lab.running import cold_start
from steadyrl.lab.study import changed
from steadyrl.learners.local import LocalLearner
from steadyrl.objectives import MiniRL
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.report.plots import save
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import latest_checkpoint

RESULTS = Path(__file__).parent / "results" / "dose_gradients.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "dose_gradients.svg"

NO_BOUND = float("inf")
CLIPPED, FREE, UNWEIGHTED = "MiniRL", "MiniRL, no clipping", "MiniRL, no importance weights"
ESTIMATORS = {
    CLIPPED: Estimator(objective=MiniRL()),
    FREE: Estimator(objective=MiniRL(clip_low=NO_BOUND, clip_high=NO_BOUND)),
    UNWEIGHTED: Estimator(objective=MiniRL(correct_mismatch=False)),
}

NOISES: Mapping[str, tuple[float, ...]] = {
    "routing_noise": (0.125, 0.25, 0.5, 1.0, 2.0),
    "weight_noise": (0.0221, 0.0442, 0.0884, 0.177, 0.354),
}
STEPS = (0, 4, 8, 16, 32, 64)
PROMPTS = 384
BLOCKS = 32

LINES: Mapping[str, tuple[tuple[str, RoutingReplay], ...]] = {
    "routing_noise": ((CLIPPED, RoutingReplay.NONE), (CLIPPED, RoutingReplay.R3)),
    "weight_noise": ((UNWEIGHTED, RoutingReplay.NONE), (CLIPPED, RoutingReplay.NONE)),
    "staleness": (
        (FREE, RoutingReplay.NONE),
        (CLIPPED, RoutingReplay.NONE),
        (CLIPPED, RoutingReplay.R2),
    ),
}
"""What the figure shows: as the dials of the doses do, without a remedy and with each."""

AXES = {
    "routing_noise": "routing noise",
    "weight_noise": "weight noise",
    "staleness": "gradient steps since the rollout",
}


def main() -> None:
    """Measures, writes and draws."""
    options = argparse.ArgumentParser()
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--prompts", type=int, default=PROMPTS)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        start = cold_started(arguments.seed, Path(folder))
        for noise in NOISES:
            rows += by_noise(start, noise, arguments.prompts)
        rows += by_staleness(start, arguments.prompts)
    RESULTS.write_text(json.dumps({**manifest(arguments.seed), "rows": rows}, indent=1) + "\n")
    draw(rows, FIGURE)
    print(f"{RESULTS}\n{FIGURE}")


def cold_started(seed: int, folder: Path) -> RunConfig:
    """The world of the doses, whose model is its cold start."""
    whole = changed(dose_world(Numerics.FLOAT32, mini_batches=1), seed=seed)
    checkpoint = latest_checkpoint(start_run(cold_start(whole), folder / "cold"))
    assert checkpoint is not None
    return changed(
        whole,
        model=Pretrained(path=str(checkpoint)).model_dump(),
        cold_start=None,
        algorithm=whole.algorithm.model_dump() | {"advantage": "leave_one_out"},
    )


def by_noise(start: RunConfig, noise: str, prompts: int) -> Iterator[dict[str, Any]]:
    """Errors of rollouts of the current weights, by an engine with each dose of one noise."""
    for dose in NOISES[noise]:
        engine = start.engine.model_dump() | {noise: dose}
        assembly = Assembly.of(changed(start, engine=engine))
        drive(assembly.engine.sync(assembly.learner.publish()))
        batch = sampled(assembly, start, prompts)
        for replay in (RoutingReplay.NONE, RoutingReplay.R3):
            yield from measured(assembly, batch, replay, study=noise, x=dose)


def by_staleness(start: RunConfig, prompts: int) -> Iterator[dict[str, Any]]:
    """Errors on one rollout after each number of gradient steps, by an engine without noise."""
    assembly = Assembly.of(start)
    learner, (stage,) = assembly.learner, assembly.stages
    assert isinstance(learner, LocalLearner)
    batch = sampled(assembly, start, prompts)
    batches = {
        replay: scored(learner, batch, replay) for replay in (RoutingReplay.NONE, RoutingReplay.R2)
    }
    learner.begin_stage(stage.optimizer.model_copy(update={"warmup_steps": 0}), 1.0, fresh=True)
    taken = 0
    for steps in STEPS:
        while taken < steps:
            ahead = experience_of(stage.algorithm, 1_000 + taken, assembly.engine)
            (rows,) = ahead.mini_batches
            learner.update(stage.algorithm.loss_terms(rows), step=taken, steps=STEPS[-1])
            drive(assembly.engine.sync(learner.publish()))
            taken += 1
        for replay, of_replay in batches.items():
            yield from measured(assembly, of_replay, replay, study="staleness", x=steps)


def measured(
    assembly: Assembly, batch: Any, replay: RoutingReplay, **where: Any
) -> list[dict[str, Any]]:
    """Errors under `replay` against the gradient of the policy as it routes by itself."""
    routing = {
        RoutingReplay.NONE: None,
        RoutingReplay.R2: batch.old_routing,
        RoutingReplay.R3: batch.rollout_routing,
    }[replay]
    assert isinstance(assembly.learner, LocalLearner)
    try:
        errors = sampled_errors(
            assembly.learner.policy,
            batch,
            ESTIMATORS,
            blocks=min(BLOCKS, len(batch.group_ids.unique())),
            replay=routing,
            live_target=routing is not None,
        )
    except UserError as error:  # a gradient that the sample cannot tell from 0
        print(f"not measured: {where}, {replay}: {error}", flush=True)
        return []
    rows = as_rows(errors, replay=replay.value, **where)
    print(rows[0], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> Path:
    """The path of the figure: relative error and cosine against the dose of each dial."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    panels = figure.subplots(2, len(LINES))
    for column, study in enumerate(LINES):
        for axes, kind in zip(panels[:, column], ("relative_error", "cosine"), strict=True):
            _draw_panel(axes, rows, study, kind)
    return save(figure, path)


def _draw_panel(axes: Axes, rows: list[dict[str, Any]], study: str, kind: str) -> None:
    for number, (estimator, replay) in enumerate(LINES[study]):
        line = [
            row
            for row in rows
            if (row["study"], row["estimator"], row["replay"]) == (study, estimator, replay)
        ]
        values = [row[kind] for row in line]
        plain = replay is RoutingReplay.NONE
        axes.errorbar(
            [f"{row['x']:g}" for row in line],
            [value for value, *_ in values],
            yerr=[
                [max(0.0, value - low) for value, low, _ in values],
                [max(0.0, high - value) for value, _, high in values],
            ],
            marker="o",
            markersize=4,
            capsize=2,
            color=COLORS[number],
            label=estimator if plain else f"{estimator}, {replay.upper()}",
        )
    axes.set_title(f"{kind.replace('_', ' ')} to grad J_seq", loc="left", fontsize=11)
    axes.set_xlabel(AXES[study], fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    main()
