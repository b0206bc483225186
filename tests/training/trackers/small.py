"""Runs of two stages, to be tracked."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.stage import Stage
from steadyrl.training.trackers import TrackedRun, Tracker
from tests.learners.small import Idle


def stage(name: str, steps: int) -> Stage:
    return Stage(
        name=name, algorithm=Idle(), steps=steps, optimizer=OptimizerSettings(), temperature=1.0
    )


COLD, RL = STAGES = (stage("cold_start", 2), stage("rl", 3))

ROWS: list[dict[str, Any]] = [
    {"stage": "cold_start", "step": 1, "loss": 1.0},
    {"stage": "cold_start", "step": 2, "loss": 0.5},
    {"stage": "rl", "step": 0, "score": 0.25},
    {"stage": "rl", "step": 1, "loss": math.nan, "routing_per_layer": [0.5, 0.25]},
    {"stage": "rl", "step": 2, "loss": -math.inf, "responses": 8},
    {"stage": "rl", "step": 3, "loss": 0.125, "score": 0.5},
]
"""Metrics of a run, with what is not finite."""

POSITIONS = [1, 2, 3, 4, 5, 6]
"""Of the rows: the state before the first step of a stage has a number of its own."""


def tracked_run(path: Path, rows: Sequence[Mapping[str, Any]] = ()) -> TrackedRun:
    """The run in the folder `path`, of which `rows` are on record."""
    config = {"steps": 3, "learner": {"dtype": "float32"}, "trackers": [{"name": "jsonl"}]}
    notes = [{"stage": "cold_start", "step": 1, "note": "Begun."}] if rows else []
    path.mkdir(parents=True, exist_ok=True)
    return TrackedRun(folder=RunFolder(path), stages=STAGES, config=config, rows=rows, notes=notes)


def log_rows(tracker: Tracker, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        own = next(stage for stage in STAGES if stage.name == row["stage"])
        metrics = {name: value for name, value in row.items() if name not in ("stage", "step")}
        tracker.log(own, row["step"], metrics)


def expected_scalars() -> dict[tuple[str, int], float]:
    """Every number of `ROWS` by its name and the step of its stage."""
    scalars = {}
    for row in ROWS:
        for name, value in row.items():
            if isinstance(value, list):
                for number, each in enumerate(value):
                    scalars[f"{row['stage']}/{name}/{number}", row["step"]] = each
            elif name not in ("stage", "step"):
                scalars[f"{row['stage']}/{name}", row["step"]] = value
    return scalars
