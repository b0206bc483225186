"""The demo with two engines and two sharded ranks on a local Ray cluster.

    PYTHONPATH=src:. python -m benchmarks.demo_on_ray --folder runs/ray
    PYTHONPATH=src:. python -m benchmarks.demo_on_ray --folder runs/ray --whole true

The first compares the metrics of the first steps, from the same cold start and with an engine in
float32, with those of the run in one process. The second runs the demo as

    steadyrl train demo --placement.name ray --placement.address local:2 --learner fsdp

does, with its cold start and the engine in FP8, and goes on with what an interrupted run has saved.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.placement.settings import RayPlacement
from steadyrl.training.checkpoint import latest_checkpoint

PLACED = {"placement": RayPlacement(address="local:2"), "learner": FsdpLearnerSettings(ranks=2)}

NOT_COMPARED = ("second", "temperature_share", "surprisal_gap_z", "weights_changed_fraction")
"""Parts of names of metrics that are times, or measures of what is rounding in float32. The last is
an estimate from a sample of the weights, which is another one in each shard."""


class Options(Settings):
    """Compare the demo on Ray with the demo in one process, or run it to its end there."""

    folder: Path
    """Folder for the runs. Those that are there already are used, or gone on with."""

    start: Path | None = None
    """Model folder that both runs of the comparison begin from. None: a cold start is made."""

    steps: int = 5
    """Number of steps to compare."""

    seed: int = 0
    """Seed of all runs."""

    whole: bool = False
    """Run the demo to its end in place of the comparison."""

    out: Path | None = None
    """File for the numbers, as JSON."""


def main() -> None:
    """Runs what is asked for, and prints what it shows."""
    options = script_options(Options)
    found = whole(options) if options.whole else compared(options)
    for name, value in found.items():
        print(f"{name}: {value}")
    if options.out is not None:
        write_atomically(options.out, json.dumps(found, indent=2) + "\n")


def whole(options: Options) -> dict[str, Any]:
    """The demo to its end on Ray."""
    config = RECIPES["demo"]().model_copy(update={"seed": options.seed, **PLACED})
    rows = rows_of(options.folder / "whole", config)
    scores = {f"{row['stage']} {row['step']}": row["score"] for row in rows if "score" in row}
    return {
        "score": scores,
        "seconds a step": median_of(rows, "seconds"),
        **origin(options.folder / "whole"),
    }


def compared(options: Options) -> dict[str, Any]:
    """The largest difference of each step's metrics."""
    demo = RECIPES["demo"]().model_copy(update={"seed": options.seed})
    start = options.start or cold_started(options.folder / "cold", demo)
    config = demo.model_copy(
        update={
            "model": Pretrained(path=str(start)),
            "cold_start": None,
            "steps": options.steps,
            "engine": LocalEngineSettings(numerics=Numerics.FLOAT32),
        }
    )
    embedded = rows_of(options.folder / "embedded", config)
    placed = rows_of(options.folder / "placed", config.model_copy(update=PLACED))
    steps = {}
    for ours, theirs in zip(placed, embedded, strict=True):
        apart = {name: distance(value, dict(flat(theirs))[name]) for name, value in flat(ours)}
        worst = max(apart, key=lambda name: apart[name])
        steps[f"step {ours['step']}"] = {
            "metrics": len(apart),
            "largest difference": apart[worst],
            "of": worst,
        }
    return {
        **steps,
        "seconds a step, embedded": median_of(embedded, "seconds"),
        "seconds a step, on Ray": median_of(placed, "seconds"),
        **origin(options.folder / "placed"),
    }


def cold_started(path: Path, demo: RunConfig) -> Path:
    """The checkpoint after the demo's cold start, in one process."""
    rows_of(path, demo.model_copy(update={"steps": 0}))
    start = latest_checkpoint(RunFolder(path))
    assert start is not None
    return start


def rows_of(path: Path, config: RunConfig) -> list[dict[str, Any]]:
    """Metrics of a run, which is begun or gone on with."""
    folder = RunFolder(path)
    if folder.config.exists():
        if folder.read_metrics()[-1:] and folder.read_metrics()[-1]["step"] == config.steps:
            return folder.read_metrics()
        resume_run(path)
    else:
        start_run(config, path)
    return folder.read_metrics()


def flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a row by name, without those that are not compared."""
    for name, value in row.items():
        if any(part in name for part in NOT_COMPARED):
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, (list, tuple)):
            yield from flat({str(n): each for n, each in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", float(value)


def distance(one: float, other: float) -> float:
    """Difference, as a share of the larger one where that is above 1."""
    if math.isnan(one) and math.isnan(other):
        return 0.0
    return abs(one - other) / max(1.0, abs(one), abs(other))


def median_of(rows: list[dict[str, Any]], name: str) -> float:
    """Median over the steps of reinforcement."""
    values = sorted(row[name] for row in rows if row["stage"] == "rl" and name in row)
    return float(values[len(values) // 2])


def origin(path: Path) -> dict[str, Any]:
    """Commit, machine and packages of a run."""
    content = json.loads(RunFolder(path).manifest.read_text(encoding="utf-8"))
    return {key: content[key] for key in ("commit", "machine", "packages") if key in content}


if __name__ == "__main__":
    main()
