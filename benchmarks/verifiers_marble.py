r"""Learning in an environment of verifiers from PyPI, unmodified: marble-v1, with its own settings.

    make .venv-verifiers/verifiers.stamp
    .venv-verifiers/bin/python benchmarks/verifiers_marble.py \
        --out benchmarks/results/verifiers_marble.json

A marble falls off a ramp; the model is given a ring and a piece, and says where the piece has to be
for the marble to bounce through the ring. A cold start teaches a small model to write layouts: the
solutions of other levels, which solve a level by chance. Reinforcement begins there. Two answers
without learning are measured on the same held-out levels: the solution of a random other level
with the same piece, and for each piece the one answer that solves most of the training levels. What
a model has by reading the ring is its score less that of its answers to other levels.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from marble_start import OtherLevelsSettings, layout_of, piece_of, save_model
from marble_v1.sim import Kind, Level, Placement, simulate
from marble_v1.taskset import parse_layout

from steadyrl.algorithms import PolicyGradientSettings
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines import LocalEngineSettings, Sampling
from steadyrl.environments import Split, Task
from steadyrl.environments.adapters.verifiers_tasks import VerifiersSettings
from steadyrl.evaluation import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.records.intervals import mean_interval, score_interval
from steadyrl.records.run_folder import RunFolder, read_json_lines, write_atomically
from steadyrl.run import RunConfig, start_run
from steadyrl.run.config import ColdStart
from steadyrl.run.manifest import as_json, manifest


class Options(Settings):
    """Train in marble-v1."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs."""

    cold_start_steps: int = 250
    """Steps of the cold start."""

    levels: int = 400
    """Number of training levels that the cold start shows."""

    steps: int = 40
    """Steps of reinforcement."""

    held_out: int = 128
    """Number of held-out levels."""

    level_seed: int = 100_000
    """Where the environment's stream of levels begins."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def environment_of(options: Options) -> VerifiersSettings:
    """The environment. Everything but the beginning of its stream of levels is its default."""
    return VerifiersSettings(taskset="marble-v1", options={"seed": options.level_seed})


def configuration(model: Path, seed: int, options: Options) -> RunConfig:
    """The run that begins with the random weights in `model`."""
    return RunConfig(
        seed=seed,
        threads=1,
        model=Pretrained(path=str(model)),
        environment=environment_of(options),
        cold_start=ColdStart(
            teacher=OtherLevelsSettings(levels=options.levels),
            steps=options.cold_start_steps,
            batch_size=64,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=10),
        ),
        algorithm=PolicyGradientSettings(prompts=16, group_size=8, mini_batches=2),
        steps=options.steps,
        sampling=Sampling(max_new_tokens=32),
        engine=LocalEngineSettings(numerics=Numerics.FLOAT32),
        optimizer=OptimizerSettings(learning_rate=1e-3),
        evaluation=EvaluationSettings(tasks=options.held_out, samples=4),
        evaluate_every=max(1, options.steps // 2),
    )


def solves(task: Task, layout: list[dict[str, Any]]) -> bool:
    """Whether the marble goes through the ring of `task`, by the environment's own simulator."""
    x, y, half_width = task.payload.data.ring
    level = Level(ring_x=x, ring_y=y, ring_half_width=half_width, bounds=task.payload.data.bounds)
    pieces = [Placement(Kind(p["kind"]), p["x"], p["y"], p["rot"]) for p in layout]
    return bool(simulate(level, pieces).scored)


def without_learning(shown: Sequence[Task], held_out: Sequence[Task]) -> dict[str, object]:
    """Scores of answers that know nothing of the ring, on `held_out`.

    Args:
        shown: Training levels, from whose solutions the answers are chosen.
    """
    generator = np.random.default_rng(0)
    by_piece: dict[str, list[Task]] = {}
    for task in shown:
        by_piece.setdefault(piece_of(task), []).append(task)
    others = [
        fmean(
            solves(task, layout_of(same[number]))
            for number in generator.integers(len(same), size=8)
        )
        for task in held_out
        for same in [by_piece[piece_of(task)]]
    ]
    best = {
        piece: max(
            (layout_of(task) for task in same[:24]),
            key=lambda layout: sum(solves(task, layout) for task in same[:40]),
        )
        for piece, same in by_piece.items()
    }
    fixed = [float(solves(task, best[piece_of(task)])) for task in held_out]
    return {"other_levels": _score(others), "best_fixed": _score(fixed)}


def by_reading(run: RunFolder, step: int, held_out: Sequence[Task]) -> list[float]:
    """What the answers to a level score more than legal ones to others with the same piece.

    Returns:
        The mean over levels, and its interval; empty if fewer than two have a legal answer.
    """
    answers: dict[str, list[list[dict[str, Any]]]] = {}
    for row in _episodes(run, step):
        legal = row["reward_parts"].get("answered_legally")
        placed = parse_layout(row["response"]) if legal else None
        layout = [{"kind": p.kind, "x": p.x, "y": p.y, "rot": p.rot_steps} for p in placed or ()]
        answers.setdefault(row["task_id"], []).extend([layout] if layout else [])
    generator = np.random.default_rng(0)
    more = []
    for task in held_out:
        same = [x.id for x in held_out if piece_of(x) == piece_of(task) and x.id != task.id]
        others = [layout for name in same for layout in answers[name]]
        chosen = generator.permutation(len(others))[:12]
        own = answers[task.id]
        if own and len(chosen):
            swapped = fmean(solves(task, others[number]) for number in chosen)
            more.append(fmean(solves(task, layout) for layout in own) - swapped)
    return _mean(more) if len(more) > 1 else []


def measure(
    model: Path, seed: int, options: Options, folder: Path, held_out: Sequence[Task]
) -> dict[str, object]:
    """Held-out scores of a run with their intervals, by step, and its seconds."""
    began, spent = time.monotonic(), time.process_time()
    run = start_run(configuration(model, seed, options), folder)
    rows = [row for row in run.read_metrics() if row.get("stage") == "rl"]
    scored = [row for row in rows if "score" in row]
    return {
        "seed": seed,
        "held_out": {
            row["step"]: [round(row[name], 4) for name in ("score", "score_low", "score_high")]
            for row in scored
        },
        "pass_at_4": {row["step"]: round(row["score_pass_at_k"], 4) for row in scored},
        "gain": _gain(run, options.steps),
        "by_reading": {row["step"]: by_reading(run, row["step"], held_out) for row in scored},
        "reward": [round(row["reward"], 4) for row in rows if "reward" in row],
        "failed_fraction": max(row["environment_failed_fraction"] for row in rows if row["step"]),
        "held_out_failed_fraction": max(row["score_failed_fraction"] for row in scored),
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - spent, 1),
    }


def _gain(run: RunFolder, steps: int) -> list[float]:
    """Mean difference of the scores of a level after and before, and its interval."""
    before, after = (_task_scores(run, step) for step in (0, steps))
    return _mean([after[task] - before[task] for task in sorted(before.keys() & after.keys())])


def _mean(values: list[float]) -> list[float]:
    interval = mean_interval(values)
    assert interval is not None
    return [round(number, 4) for number in (fmean(values), interval.low, interval.high)]


def _episodes(run: RunFolder, step: int) -> list[dict[str, Any]]:
    """Held-out episodes after so many steps."""
    return read_json_lines(run.completions_file("evaluation_rl", step))


def _task_scores(run: RunFolder, step: int) -> dict[str, float]:
    rewards: dict[str, list[float]] = {}
    for row in _episodes(run, step):
        rewards.setdefault(row["task_id"], []).append(row["reward"])
    return {task: fmean(given) for task, given in rewards.items()}


def _score(scores: list[float]) -> list[float]:
    """Mean of the levels, and its interval."""
    interval = score_interval(scores)
    assert interval is not None
    return [round(number, 4) for number in (fmean(scores), interval.low, interval.high)]


def main(options: Options) -> None:
    """Prints the numbers and writes them, after each seed."""
    found: dict[str, object] = {**manifest(0), "options": options.model_dump(mode="json")}
    environment = environment_of(options).make()
    shown = [environment.task(Split.TRAIN, number) for number in range(options.levels)]
    held_out = [environment.task(Split.TEST, number) for number in range(options.held_out)]
    environment.close()
    found["without_learning"] = without_learning(shown, held_out)
    print(as_json(found))
    runs: list[dict[str, object]] = []
    with TemporaryDirectory() as name:
        for seed in options.seeds:
            model = Path(name) / f"model-{seed}"
            save_model(model, shown[:200], seed)
            runs.append(measure(model, seed, options, Path(name) / f"run-{seed}", held_out))
            print(as_json(runs[-1]))
            if options.out is not None:
                write_atomically(options.out, as_json({**found, "runs": runs}))


if __name__ == "__main__":
    main(script_options(Options))
