"""Where log(pi_theta / mu_old) comes from in one run: by weights, numerics and staleness.

    python benchmarks/mismatch_sources.py --out benchmarks/results/mismatch_sources.json

The demo with four mini-batches a rollout and no replay is trained for 40 steps, keeping every
checkpoint. Then `steadyrl mismatch` accounts for the discrepancy at equal weights and for four
updates of staleness, with several seeds of the sampling.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from steadyrl.base.settings import Settings
from steadyrl.cli.main import main as steadyrl
from steadyrl.cli.options import script_options
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest

TRAIN = (
    "train demo --algorithm.mini-batches 4 --routing-replay none --steps 40 "
    "--journal.checkpoint-every 1 --journal.keep-checkpoints 40"
)

AT_EQUAL_WEIGHTS = ("cold_start-000800", "rl-000020", "rl-000040")
NUMERICS = (Numerics.BFLOAT16, Numerics.INT8, Numerics.FP8, Numerics.INT4)

FOUR_UPDATES_APART = (
    ("rl-000005", "rl-000006"),
    ("rl-000010", "rl-000011"),
    ("rl-000020", "rl-000021"),
    ("rl-000030", "rl-000031"),
    ("rl-000039", "rl-000040"),
)

Row = dict[str, Any]


class Options(Settings):
    """Account for the mismatch of a run of its own."""

    run: Path | None = None
    """A run folder of the command above, to measure that one instead."""

    tasks: int = 512
    seeds: int = 3
    out: Path | None = None
    """Where to write the numbers as JSON."""


def measure(run: Path, options: Options) -> list[Row]:
    """One row for each pair of checkpoints, numerics and seed."""
    equal = [(name, name, numerics) for name in AT_EQUAL_WEIGHTS for numerics in NUMERICS]
    stale = [(old, new, Numerics.FP8) for old, new in FOUR_UPDATES_APART]
    return [
        account(run, old, new, numerics, seed, options.tasks)
        for old, new, numerics in (*equal, *stale)
        for seed in range(options.seeds)
    ]


def account(run: Path, old: str, new: str, numerics: Numerics, seed: int, tasks: int) -> Row:
    """What `steadyrl mismatch` writes."""
    command = f"mismatch {run} --from {old} --to {new} --numerics {numerics} --seed {seed}"
    do(f"{command} --tasks {tasks}")
    written = json.loads((run / "mismatch.json").read_text())
    kept = ("from", "to", "updates", "numerics", "tokens", "whole", "orders", "replayed", "flips")
    return {"seed": seed, **{name: written[name] for name in kept}}


def do(command: str) -> None:
    """Runs `steadyrl` as from a shell."""
    status = steadyrl(command.split())
    if status != 0:
        raise SystemExit(status)


def table(rows: Sequence[Row], changes: Sequence[str], replays: Sequence[str]) -> str:
    """Shares of the variance and k3, from least to most over seeds and both orders."""
    labels = (change.replace("_", " ") for change in changes)
    heads = ("weights", "engine", *labels, "k3, live", *(f"k3, {r.upper()}" for r in replays))
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for names, group in groupby(rows, lambda row: (row["from"], row["to"], row["numerics"])):
        same = list(group)
        orders = [order for row in same for order in row["orders"].values()]
        shares = [span([order[c]["share"] for order in orders], percent) for c in changes]
        wholes = [
            [row["whole"] for row in same],
            *([r["replayed"][n] for r in same] for n in replays),
        ]
        k3 = [span([whole["kl_k3"] for whole in each], "{:.1e}".format) for each in wholes]
        weights = names[0] if names[0] == names[1] else f"{names[0]} to {names[1]}"
        lines.append(f"| {' | '.join((weights, names[2], *shares, *k3))} |")
    return "\n".join(lines)


def percent(share: float) -> str:
    """A share in whole percent; none of them is -0%."""
    return f"{round(share, 2) + 0.0:.0%}"


def span(values: Sequence[float], wording: Callable[[float], str]) -> str:
    """`1 to 3`, or `1` where least and most read the same."""
    least, most = wording(min(values)), wording(max(values))
    return least if least == most else f"{least} to {most}"


def main(options: Options) -> None:
    """Prints both tables and writes the numbers."""
    with tempfile.TemporaryDirectory() as place:
        run = options.run or Path(place) / "run"
        if options.run is None:
            do(f"{TRAIN} --out {run}")
        rows = measure(run, options)
    equal = [row for row in rows if row["from"] == row["to"]]
    stale = [row for row in rows if row["from"] != row["to"]]
    print(table(equal, ("decoding", "numerics", "routing"), ("r3",)))
    print(table(stale, ("numerics", "routing", "weights", "stale_routing"), ("r2", "r3")))
    if options.out is not None:
        content = {"train": f"steadyrl {TRAIN}", **manifest(0), "rows": rows}
        write_atomically(options.out, json.dumps(content) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
