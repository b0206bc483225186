"""Simulated steps per second of two overlapped processes beside what was recorded.

    python benchmarks/simulated_runs.py
    python -m benchmarks.performance --only overlap        # records it again

One engine samples whole rollouts, one learner trains; the times of both are those of the same run
without overlap: the update is the processor time of the learner's process, the rollout is the rest.
"""

import json
from pathlib import Path
from typing import Any

from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.simulated_cluster import MeasuredDecoding, SimulatedCluster
from steadyrl.planning.simulation import simulate

RECORD = Path(__file__).parent / "results" / "performance_overlap.json"

RUNS = {
    "the demo": "overlap-two-processes",
    "the demo, 4 mini-batches": "overlap-two-processes-n4",
}

TOKENS = 100
"""Tokens into which the time of a rollout is divided."""


def predicted(rollout: float, update: float, *, max_staleness: int) -> float:
    """Seconds of a step whose parts take these seconds."""
    cluster = SimulatedCluster(
        cost=MeasuredDecoding(token_seconds=rollout / TOKENS),
        engines=1,
        slots=1,
        groups=1,
        group=1,
        prompt=0,
        lengths=ResponseLengths(mean=float(TOKENS), maximum=TOKENS, spread=0.0),
        train_seconds=update,
        sync_seconds=0.0,
    )
    return simulate(cluster, max_staleness=max_staleness, steps=40).step_seconds


def main() -> None:
    """Prints a row for each run."""
    rows = {row["key"]: row for row in json.loads(RECORD.read_text(encoding="utf-8"))["rows"]}
    print("| run | measured, s a step | predicted | error |\n|---|---|---|---|")
    for name, key in RUNS.items():
        details: dict[str, Any] = rows[key]["measured"]["details"]
        both, alone = details["overlapped"], details["one after the other"]
        steps = both["tokens"]
        update = both["processor_seconds"] / steps
        rollout = alone["seconds"] / steps - update
        measured = both["seconds"] / steps
        found = predicted(rollout, update, max_staleness=1)
        print(f"| {name} | {measured:.3g} | {found:.3g} | {found / measured - 1:+.0%} |")


if __name__ == "__main__":
    main()
