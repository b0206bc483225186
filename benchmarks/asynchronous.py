"""Steps per second with generation that continues, against one step after another.

    PYTHONPATH=src:. python -m benchmarks.asynchronous --out benchmarks/results/asynchronous.json

The demo from its cold start, on a workload made so that rollout and update take equally long: every
answer is judged by a computation, whose length a first run measures. Each turn is a whole run of
`steps` steps of every way, from the same weights on the same tasks, one after another. Each process
computes on one thread: the machine must have two cores that nothing else uses.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.protocol import Environment, Episode, Outcome, Split, Task
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.training.checkpoint import latest_checkpoint
from steadyrl.training.journal import JournalSettings
from steadyrl.training.trackers import JsonlSettings

CALIBRATION_STEPS = 6
PARTS = ("rollout_seconds", "update_seconds")
FULL_UPDATE = {"skip_no_signal": False, "activation_checkpointing": True}
"""Every row is trained, and its activations are computed twice: the update outlasts the rollout."""


class Options(Settings):
    """Measure steps per second with generation that continues."""

    steps: int = 24
    """Steps of each run."""

    turns: int = 3
    """Number of runs of each way."""

    bounds: tuple[int, ...] = (1,)
    """Values of `engine.max_staleness` to measure."""

    cold_start: int = 400
    """Steps of the cold start that all runs begin from."""

    seed: int = 0
    """Seed of every run."""

    out: Path | None = None
    """File for the numbers, as JSON."""


class Judged:
    """The demo's tasks, whose answers are judged by `seconds` of computation.

    Example:
        Judged(seconds=0.002)
    """

    def __init__(self, seconds: float) -> None:
        self._tasks: Environment = RECIPES["demo"]().environment.make()
        self._seconds = seconds

    def task(self, split: Split, index: int) -> Task:
        """A chain of arithmetic."""
        return self._tasks.task(split, index)

    def start(self, task: Task) -> "JudgedEpisode":
        """An episode of it."""
        return JudgedEpisode(self._tasks.start(task), self._seconds)


class JudgedEpisode:
    """An episode whose answer takes long to judge."""

    def __init__(self, episode: Episode, seconds: float) -> None:
        self._episode = episode
        self._seconds = seconds

    def respond(self, text: str) -> Any:
        """The outcome, after `seconds` of the processor's time."""
        until = time.process_time() + self._seconds
        while time.process_time() < until:
            pass
        outcome = self._episode.respond(text)
        assert isinstance(outcome, Outcome), "arithmetic is judged at once"
        return outcome


def main() -> None:
    """Measures all ways in turns, and prints the table."""
    options = script_options(Options)
    with TemporaryDirectory() as folder:
        start = cold_started(Path(folder) / "cold", options)
        seconds = judging(Path(folder) / "calibration", start, options)
        ways: dict[str, dict[str, Any]] = {"one after the other": {}}
        for bound in options.bounds:
            engine = {"overlap": True, "in_flight": "continue", "max_staleness": bound}
            ways[f"continue, bound {bound}"] = engine
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for turn in range(options.turns):
            for name, engine in ways.items():
                path = Path(folder) / f"{turn}-{name}"
                runs[name].append(measured(path, config(start, seconds, options.steps, engine)))
                print(f"turn {turn + 1}, {name}: {runs[name][-1]['steps_per_second']:.3f} steps/s")
        manifest = json.loads(RunFolder(path).manifest.read_text(encoding="utf-8"))
    report(runs, seconds, options, manifest)


def cold_started(path: Path, options: Options) -> Path:
    """The checkpoint that all runs begin from."""
    config = RECIPES["demo"]()
    assert config.cold_start is not None
    changes = {"cold_start": config.cold_start.model_copy(update={"steps": options.cold_start})}
    start_run(config.model_copy(update={**changes, "steps": 0, "seed": options.seed}), path)
    checkpoint = latest_checkpoint(RunFolder(path))
    assert checkpoint is not None
    return checkpoint


def judging(path: Path, start: Path, options: Options) -> float:
    """Seconds of judging for each answer at which rollout and update take equally long."""
    plain = config(start, 0.0, CALIBRATION_STEPS, {})
    row = measured(path, plain)
    answers = plain.algorithm.prompts * plain.algorithm.group_size
    missing = row["update_seconds"] - row["rollout_seconds"]
    if missing < 0:
        raise SystemExit("The rollout takes longer than the update: nothing can be added to it.")
    return float(missing / answers)


def config(start: Path, judging: float, steps: int, engine: Mapping[str, Any]) -> RunConfig:
    """A run of `steps` steps whose answers are judged for so many seconds."""
    demo = RECIPES["demo"]()
    environment = CustomSettings(
        name="benchmarks.asynchronous:Judged", options={"seconds": judging}
    )
    changes = {
        "threads": 1,
        "model": Pretrained(path=str(start)),
        "environment": environment,
        "cold_start": None,
        "steps": steps,
        "learner": demo.learner.model_copy(update=FULL_UPDATE),
        "engine": demo.engine.model_copy(update=dict(engine)),
        "evaluation": EvaluationSettings(tasks=32, samples=1),
        "evaluate_every": steps,
        "journal": JournalSettings(checkpoint_every=steps, completions_every=steps),
        "trackers": (JsonlSettings(),),
    }
    return demo.model_copy(update=changes)


def measured(path: Path, config: RunConfig) -> dict[str, Any]:
    """Speed, parts and rewards of a whole run, without evaluations and checkpoints."""
    start_run(config, path)
    rows = [row for row in RunFolder(path).read_metrics() if row["step"] > 0]
    return {
        "steps_per_second": len(rows) / sum(row["seconds"] for row in rows),
        "rewards": [round(row["reward"], 4) for row in rows],
        "staleness": fmean(row["staleness"] for row in rows),
        **{part: fmean(row[part] for row in rows) for part in PARTS},
    }


def report(
    runs: Mapping[str, list[dict[str, Any]]],
    seconds: float,
    options: Options,
    manifest: Mapping[str, Any],
) -> None:
    """Prints the table, and writes all numbers."""
    plain, *_ = runs.values()
    print(f"{1e3 * seconds:.2f} ms of judging for each answer.")
    print("| | steps/s | times | rollout, s | update, s | staleness | last rewards |")
    print("|---|---|---|---|---|---|---|")
    factors = {}
    for name, own in runs.items():
        pairs = zip(own, plain, strict=True)
        times = [run["steps_per_second"] / base["steps_per_second"] for run, base in pairs]
        factors[name] = times
        last = fmean(reward for run in own for reward in run["rewards"][-8:])
        parts = " | ".join(f"{fmean(run[part] for run in own):.2f}" for part in PARTS)
        print(
            f"| {name} | {median(run['steps_per_second'] for run in own):.3f} "
            f"| {median(times):.2f} ({min(times):.2f} to {max(times):.2f}) | {parts} "
            f"| {fmean(run['staleness'] for run in own):.2f} | {last:.3f} |"
        )
    if options.out is not None:
        kept = {key: manifest[key] for key in ("commit", "machine", "packages") if key in manifest}
        asked = options.model_dump(include={"steps", "turns", "bounds", "cold_start", "seed"})
        results = {**asked, "judging_seconds": seconds, "times": factors, "runs": runs, **kept}
        write_atomically(options.out, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
