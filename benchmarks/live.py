"""Served success of a simulated population over generations, with and without learning from it.

    PYTHONPATH=src:. python -m benchmarks.live --out benchmarks/results/live.json

Users whose code words have a hidden meaning ask through the gateway, judge, and some of them
correct wrong answers. Four arms serve the same users from the same cold start, which knows no
meaning. Finished pairs of arm and seed are kept in --work, so an interrupted study goes on.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import t

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.lab.drawing import COLORS
from steadyrl.lab.live_study import (
    ARMS,
    cold_start,
    drift_texts,
    live_config,
    serve_population,
)
from steadyrl.lab.worlds.live_users import Habits
from steadyrl.records.run_folder import write_atomically
from steadyrl.report.plots import STYLE, save
from steadyrl.run.manifest import machine, this_source

LAST = 3
"""Generations at the end over which served success is averaged."""


class Options(Settings):
    """Serve a simulated population with and without learning from it."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the users, of sampling and of learning."""

    cold_start: int = 0
    """Seed of the cold start that everything begins from."""

    generations: int = 16
    """Generations that are served."""

    users: int = 64
    """New users in each generation."""

    work: Path = Path("runs/live-study")
    """Folder of the loops."""

    out: Path = Path("benchmarks/results/live.json")
    """File for the numbers, as JSON."""

    figure: Path = Path("docs/figures/live.svg")
    """File for the figure."""


def main() -> None:
    """Serves what is missing, then writes numbers and figure."""
    options = script_options(Options)
    checkpoint = cold_start(options.work, options.cold_start)
    texts = options.work / "drift.jsonl"
    write_atomically(texts, "".join(json.dumps(line) + "\n" for line in drift_texts(64)))
    runs = [
        _finished(arm, seed, checkpoint, texts, options) for seed in options.seeds for arm in ARMS
    ]
    result = {
        "options": options.model_dump(mode="json", exclude={"work", "out", "figure"}),
        "habits": asdict(Habits()),
        "source": this_source(),
        "machine": machine(),
        "differences": differences(runs),
        "runs": runs,
    }
    write_atomically(options.out, json.dumps(result, indent=1) + "\n")
    draw(runs, options.figure)
    for line in result["differences"]:
        print(line["sentence"])


def _finished(
    arm: str, seed: int, checkpoint: Path, texts: Path, options: Options
) -> dict[str, Any]:
    """What one arm served with one seed, from its file or anew."""
    path = options.work / f"{arm.replace(' ', '-')}-{seed}"
    file = path / "served.json"
    if not file.exists():
        shutil.rmtree(path, ignore_errors=True)  # half a run: its users would ask twice
        served = drive(
            serve_population(
                arm,
                live_config(checkpoint, texts, seed, **(ARMS[arm] or {})),
                path,
                generations=options.generations,
                users=options.users,
                habits=Habits(),
                now=time.process_time,
            )
        )
        write_atomically(file, json.dumps(asdict(served), indent=1))
        print(f"{arm}, seed {seed}: {served.success}, {served.seconds:.0f} s", flush=True)
    run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return run


def differences(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By how much more the live loop serves rightly at the end than each other arm, over seeds."""
    last = {(run["arm"], run["seed"]): fmean(run["success"][-LAST:]) for run in runs}
    seeds = sorted({seed for _, seed in last})
    found = []
    for arm in ARMS:
        if arm == "live loop":
            continue
        gains = [last["live loop", seed] - last[arm, seed] for seed in seeds]
        mean = fmean(gains)
        half = float("inf")
        if len(gains) > 1:
            half = float(t.ppf(0.975, len(gains) - 1)) * stdev(gains) / len(gains) ** 0.5
        verdict = "more" if mean > half else "less" if mean < -half else "undecided"
        found.append(
            {
                "against": arm,
                "difference": mean,
                "low": mean - half,
                "high": mean + half,
                "verdict": verdict,
                "sentence": f"live loop against {arm!r}, last {LAST} generations: {mean:+.3f} "
                f"({mean - half:+.3f} to {mean + half:+.3f}), {verdict}",
            }
        )
    return found


def draw(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Mean over seeds, and a band from the lowest seed to the highest."""
    with rc_context(STYLE | {"axes.spines.bottom": True}):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        for color, arm in zip(COLORS, ARMS, strict=False):
            rows = np.array([run["success"] for run in runs if run["arm"] == arm])
            steps = np.arange(rows.shape[1])
            axes.plot(steps, rows.mean(axis=0), color=color, label=arm)
            axes.fill_between(steps, rows.min(0), rows.max(0), color=color, alpha=0.15, lw=0)
        axes.set(xlabel="generation", ylim=(0, 1))
        axes.set_title("Share of users whose answer was right; bands: range of seeds")
        axes.legend(frameon=False, fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    main()
