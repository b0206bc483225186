"""How often policies that know the rules win FrozenLake and Sokoban, with 95% intervals over tasks.

    python benchmarks/grid_references.py --out benchmarks/results/grid_references.json

The chance of each task is exact; the interval is that of the mean over tasks.
"""

import json
import statistics
from pathlib import Path

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.grid_environment import GridEnvironment
from steadyrl.environments.protocol import Split
from steadyrl.environments.sokoban import Sokoban, SokobanSettings
from steadyrl.lab.worlds.grid_references import (
    Policy,
    around_adjacent_holes,
    at_random,
    chance_to_win,
    straight_to_goal,
)
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest

LAKE = FrozenLake(FrozenLakeSettings())
SOKOBAN = Sokoban(SokobanSettings())
ROWS: list[tuple[str, GridEnvironment, Policy]] = [
    ("frozen_lake, at random", LAKE, at_random),
    ("frozen_lake, straight to the goal", LAKE, straight_to_goal),
    ("frozen_lake, around adjacent holes", LAKE, around_adjacent_holes),
    ("sokoban, at random", SOKOBAN, at_random),
]


class Options(Settings):
    """Measure how often simple policies win."""

    tasks: int = 5000
    """Tasks of each split."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def chances(
    environment: GridEnvironment, policy: Policy, split: Split, tasks: int
) -> tuple[float, float]:
    """The mean chance to win over tasks, and half the width of its 95% interval."""
    puzzles = [environment.task(split, index).payload for index in range(tasks)]
    each = [chance_to_win(puzzle.game, puzzle.moves, policy) for puzzle in puzzles]
    return statistics.fmean(each), 1.96 * statistics.stdev(each) / tasks**0.5


def main(options: Options) -> None:
    """Prints a table with a row for each policy and a column for each split."""
    measured: dict[str, dict[str, list[float]]] = {}
    for name, environment, policy in ROWS:
        row = {split: chances(environment, policy, split, options.tasks) for split in Split}
        measured[name] = {split: [mean, half] for split, (mean, half) in row.items()}
        cells = [f"{split} {mean:.4f} +- {half:.4f}" for split, (mean, half) in row.items()]
        print(f"{name}: {', '.join(cells)}", flush=True)
    if options.out is not None:
        content = {"tasks": options.tasks, "chances": measured, **manifest(0)}
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
