"""From which distance of engine and trainer on rollouts began to hurt, in the studies' runs.

    python benchmarks/preflight_thresholds.py --write

Every run of policy gradients is followed in bins of 8 gradient steps. A *place* is a bin at which
the run is still sound: the mean reward of three bins is at least 0.9 of the best such mean so far.
The place is *hurt* if that mean falls below 0.7 of the best within the next ten bins (80 gradient
steps). Places are sorted by the median of a metric over the same three bins, and counted between
the edges 1, 2, 5, 10, ...

    safe     up to the edge below which at most 1 place in 200 is hurt, in every interval
    unsafe   from the edge on above which at least 1 place in 20 is hurt

`--write` writes the limits to `analysis/measured_limits.json`, from which `steadyrl preflight` and
the notes of every run read them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.lab.measures import kept
from steadyrl.lab.records import BIN, RunRecord, read_record
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest

ROOT = Path(__file__).parents[1]
LIMITS = ROOT / "src" / "steadyrl" / "analysis" / "measured_limits.json"

METRICS = ("mismatch_kl_k3", "extreme_token_fraction", "routing_disagreement")
SMOOTHED = 3
AHEAD = 10
SOUND, HURT = 0.9, 0.7
SAFE_SHARE, UNSAFE_SHARE = 1 / 200, 1 / 20
LEAST_RUNS = 10
"""Runs that an interval must have to count on its own; those with fewer are joined to the one below
them."""

EDGES = tuple(m * 10.0**e for e in range(-5, 1) for m in (1, 2, 5))


class Options(Settings):
    """Count the places at which runs were hurt, by their distance from the engine."""

    records: Path = ROOT / "results" / "runs"
    """Where the records of finished runs are."""

    write: bool = False
    """Write the limits into the package."""

    out: Path = ROOT / "benchmarks" / "results" / "preflight_thresholds.json"
    """Where to write all counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A sound place of a run.

    Example:
        Place(run="00251c0a", value=0.0021, hurt=False)
    """

    run: str
    value: float
    hurt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The places whose metric lies between two edges."""

    low: float
    high: float
    places: int
    runs: int
    hurt: int

    @property
    def share(self) -> float:
        """Share of the places that are hurt."""
        return self.hurt / self.places


def places_of(record: RunRecord, metric: str) -> Iterator[Place]:
    """The sound places of a run at which `metric` was recorded."""
    bins = -(-record.gradient_steps // BIN)
    rewards = record.curve("reward")
    # A run that failed earns nothing from then on.
    rewards = np.pad(rewards, (0, max(0, bins - len(rewards))))
    means = np.convolve(rewards, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
    values = record.curve(metric)
    for last in range(SMOOTHED, len(values)):
        here = last - SMOOTHED + 1
        best, ahead = means[:here].max(), means[here + 1 : here + 1 + AHEAD]
        if best <= 0 or means[here] < SOUND * best or len(ahead) < AHEAD // 2:
            continue
        value = float(np.median(values[here : last + 1]))
        if np.isfinite(value):
            yield Place(run=record.digest, value=value, hurt=bool(ahead.min() < HURT * best))


def intervals_of(places: Sequence[Place], least_runs: int = LEAST_RUNS) -> list[Interval]:
    """The places between each pair of edges; what has few runs is joined to the interval below."""
    found: list[Interval] = []
    pending: list[Place] = []
    low = 0.0
    for high in (*EDGES, float("inf")):
        pending += [p for p in places if max(low, _last(EDGES, high)) <= p.value < high]
        if len({p.run for p in pending}) >= least_runs:
            found.append(_interval(low, high, pending))
            low, pending = high, []
    if pending and found:
        last = found.pop()
        joined = [p for p in places if p.value >= last.low]
        found.append(_interval(last.low, float("inf"), joined))
    return found


def limits_of(intervals: Sequence[Interval]) -> tuple[float | None, float | None]:
    """The end of what is safe and the beginning of what is not; None where no interval says."""
    safe = None
    for interval in intervals:
        if interval.share > SAFE_SHARE:
            break
        safe = interval.high
    unsafe = None
    for interval in reversed(intervals):
        if interval.share < UNSAFE_SHARE:
            break
        unsafe = interval.low
    return safe, unsafe


def _last(edges: Sequence[float], edge: float) -> float:
    below = [value for value in edges if value < edge]
    return below[-1] if below else 0.0


def _interval(low: float, high: float, places: Sequence[Place]) -> Interval:
    return Interval(
        low=low,
        high=high,
        places=len(places),
        runs=len({p.run for p in places}),
        hurt=sum(p.hurt for p in places),
    )


def openings(records: Sequence[RunRecord]) -> list[str]:
    """What the first bin says of a run's end: rows of a table."""
    lines = [
        "| k3 of the first bin | runs | kept less than 0.5 of the best reward |",
        "|---|---|---|",
    ]
    firsts = [(record.curve("mismatch_kl_k3")[0], kept(record)) for record in records]
    for low, high in ((0, 1e-3), (1e-3, 2e-3), (2e-3, 5e-3), (5e-3, 1e-2), (1e-2, 1.0)):
        ends = [end for first, end in firsts if low <= first < high]
        lines.append(f"| {low:g} to {high:g} | {len(ends)} | {sum(e < 0.5 for e in ends)} |")
    return lines


def table(metric: str, intervals: Sequence[Interval]) -> list[str]:
    """A row for each interval."""
    lines = [f"| {metric} | places | runs | hurt |", "|---|---|---|---|"]
    for each in intervals:
        name = f"{each.low:g} to {each.high:g}"
        lines.append(f"| {name} | {each.places} | {each.runs} | {each.share:.1%} |")
    return lines


def main(options: Options) -> None:
    """Prints the tables, and writes counts and limits."""
    records = [read_record(path) for path in sorted(options.records.glob("*.json"))]
    chosen = [record for record in records if record.config.algorithm.name == "policy_gradient"]
    measured: dict[str, dict[str, float | None]] = {}
    counts: dict[str, list[dict[str, float]]] = {}
    for metric in METRICS:
        places = [place for record in chosen for place in places_of(record, metric)]
        intervals = intervals_of(places)
        safe, unsafe = limits_of(intervals)
        measured[metric] = {"safe": safe, "unsafe": unsafe}
        counts[metric] = [asdict(interval) for interval in intervals]
        print("\n".join([*table(metric, intervals), f"safe {safe}, unsafe {unsafe}", ""]))
    print("\n".join(openings(chosen)))
    content = {**manifest(0), "runs": len(chosen), "limits": measured, "intervals": counts}
    write_atomically(options.out, json.dumps(content, indent=1) + "\n")
    if options.write:
        own = {"runs": len(chosen), "limits": measured}
        write_atomically(LIMITS, json.dumps(own, indent=1) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
