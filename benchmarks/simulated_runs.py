"""Simulated steps per second of two overlapped processes beside what was recorded.

    python benchmarks/simulated_runs.py
    python -m benchmarks.performance --only overlap        # records it again

One engine samples whole rollouts, one learner trains, each on one of the two cores of a machine.
Recorded are the seconds of a step of both runs, overlapped and one after the other, and the
processor time of the learner's process in the overlapped one. While both processes compute, each
is slower than alone, by a factor that the record of a run contains: its update alone takes the
processor time times this speed, its rollout the rest of the run without overlap. Each run is
predicted with the speed that the other one shows.
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

HALVINGS = 40
"""Of the interval in which a speed is searched."""


class RecordedRun:
    """Seconds of a step, from the record of a run."""

    def __init__(self, details: dict[str, Any]) -> None:
        both, alone = details["overlapped"], details["one after the other"]
        self.overlapped: float = both["seconds"] / both["tokens"]
        self.in_turns: float = alone["seconds"] / alone["tokens"]
        self._learner: float = both["processor_seconds"] / both["tokens"]

    def predicted(self, speed: float, *, max_staleness: int = 1) -> float:
        """Seconds of an overlapped step, if each process has this speed beside the other."""
        update = self._learner * speed
        cluster = SimulatedCluster(
            cost=MeasuredDecoding(token_seconds=(self.in_turns - update) / TOKENS),
            engines=1,
            slots=1,
            groups=1,
            group=1,
            prompt=0,
            lengths=ResponseLengths(mean=float(TOKENS), maximum=TOKENS, spread=0.0),
            train_seconds=update,
            sync_seconds=0.0,
            speed_together=speed,
        )
        return simulate(cluster, max_staleness=max_staleness, steps=40).step_seconds

    def speed(self) -> float:
        """The speed with which the simulation takes as long as the run did."""
        low, high = 0.5, 1.0  # a step takes longer the lower the speed
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.predicted(middle) > self.overlapped:
                low = middle
            else:
                high = middle
        return high


def main() -> None:
    """Prints a row for each run."""
    rows = {row["key"]: row for row in json.loads(RECORD.read_text(encoding="utf-8"))["rows"]}
    runs = {name: RecordedRun(rows[key]["measured"]["details"]) for name, key in RUNS.items()}
    print("| run | measured, s a step | its speed beside the other | without | predicted | error |")
    print("|---|---|---|---|---|---|")
    for name, run in runs.items():
        (other,) = (each for each in runs.values() if each is not run)
        found = run.predicted(other.speed())
        print(
            f"| {name} | {run.overlapped:.3g} | {run.speed():.2f} | {run.predicted(1.0):.3g} "
            f"| {found:.3g} | {found / run.overlapped - 1:+.0%} |"
        )


if __name__ == "__main__":
    main()
