"""Memory and time of a step when an adapter is trained, and when all weights are.

    python benchmarks/lora_cost.py --out benchmarks/results/lora_cost.json

Each row is a run of the recipe `smollm2`, cut to a few steps, in a process of its own. Memory is
the largest resident size of the process; seconds are means over all steps but the first.
"""

import json
import os
import platform
import sys
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.records.run_folder import RunFolder, write_atomically

ROWS = {
    "all weights, float32": (),
    "LoRA, float32": ("--learner.lora.rank", "16"),
    "all weights, bfloat16": ("--learner.dtype", "bfloat16"),
    "LoRA, bfloat16": ("--learner.dtype", "bfloat16", "--learner.lora.rank", "16"),
}
KEPT = ("commit", "machine", "packages")
PARTS = ("rollout_seconds", "update_seconds", "seconds")


class Options(Settings):
    """Measure the cost of LoRA and of full training."""

    model: Path = Path("models/smollm2")
    """The checkpoint that is trained."""

    steps: int = 3
    """Steps of each run."""

    prompts: int = 2
    """Prompts of each step, with eight answers each."""

    seed: int = 0
    """Seed of each run."""

    out: Path | None = None
    """File for the numbers, as JSON."""


def main() -> None:
    """Trains every row and prints the table."""
    options = script_options(Options)
    asked = options.model_dump(include={"seed", "steps", "prompts"})
    results: dict[str, Any] = {**asked, "rows": {}}
    print("| trained | peak memory, GB | rollout, s | update, s | step, s | checkpoint, MB |")
    print("|---|---|---|---|---|---|")
    for name, settings in ROWS.items():
        with TemporaryDirectory() as folder:
            row, manifest = measure(Path(folder) / "run", settings, options)
        results["rows"][name] = row
        results |= {key: manifest[key] for key in KEPT if key in manifest}
        seconds = " | ".join(f"{row[part]:.1f}" for part in PARTS)
        print(
            f"| {name} | {row['memory'] / 1e9:.2f} | {seconds} | {row['checkpoint'] / 1e6:.0f} |",
            flush=True,
        )
    if options.out is not None:
        results.setdefault("machine", platform.machine())
        write_atomically(options.out, json.dumps(results, indent=2) + "\n")


def measure(
    path: Path, settings: tuple[str, ...], options: Options
) -> tuple[dict[str, float], dict[str, Any]]:
    """Memory, seconds and size of one run, and what it says of the machine."""
    arguments = [
        *("train", "smollm2", "--out", str(path), "--model", str(options.model)),
        *("--steps", str(options.steps), "--seed", str(options.seed), "--threads", "1"),
        *("--evaluation.tasks", "1", "--evaluation.samples", "1", "--evaluation.drift", "never"),
        *("--algorithm.prompts", str(options.prompts)),
        *settings,
    ]
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "steadyrl.cli.main", *arguments],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"The run of {' '.join(settings) or 'all weights'} failed.")
    run = RunFolder(path)
    steps = [row for row in run.read_metrics() if row["step"] > 1]
    held = [file for folder in run.checkpoints.iterdir() for file in folder.iterdir()]
    row = {part: mean(step[part] for step in steps) for part in PARTS}
    row["memory"] = usage.ru_maxrss * 1024.0
    row["checkpoint"] = float(sum(file.stat().st_size for file in held))
    return row, json.loads(run.manifest.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
