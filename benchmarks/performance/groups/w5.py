"""W5, a real model: rollout, operations, update, whole step and memory, each a group of its own.

    make bench-real
    python -m benchmarks.performance --only w5-rollout-bfloat16

A group is one comparison in one type, so that each can be measured alone on a quiet machine.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.performance.context import Context
from benchmarks.performance.groups.limits import UPDATED_ROWS, operations_share, update_share
from benchmarks.performance.groups.rollout import OurRollout, against_vllm
from benchmarks.performance.groups.step import against_trl
from benchmarks.performance.groups.update import (
    STRICT,
    BareUpdate,
    OurUpdate,
    first_rows,
    ratio,
    rollout_batch,
    with_signal,
)
from benchmarks.performance.records import Measured, Row, attempt, exact
from benchmarks.performance.smollm2_world import w5
from benchmarks.performance.timing import interleaved
from benchmarks.performance.worlds import World

ROUNDS = {"rollout": 3, "operations": 2, "update": 3, "step": 2}


def rollout_rows(dtype: str, context: Context) -> Iterator[Row]:
    """Rollout against vLLM, both in `dtype`."""

    def measure() -> Measured:
        world = w5(dtype, context)
        rounds = context.rounds(ROUNDS["rollout"])
        return against_vllm(world, OurRollout(world), context, rounds, dtype=dtype)

    yield attempt(f"w5-rollout-{dtype}", f"rollout, W5 in {dtype}, against vLLM on CPU", measure)


def operations_rows(dtype: str, context: Context) -> Iterator[Row]:
    """Operations per second of rollout and update, over those of a large product."""
    for part, share in (("rollout", operations_share), ("update", update_share)):
        measure = partial(_share, share, dtype, context)
        key, what = f"w5-{part}-operations-{dtype}", f"{part}, W5 in {dtype}, operations"
        yield attempt(key, what, measure)


def update_rows(dtype: str, context: Context) -> Iterator[Row]:
    """Update of 64 rows against the bare loop."""

    def measure() -> Measured:
        world = w5(dtype, context)
        batch = first_rows(with_signal(rollout_batch(world), every=1), UPDATED_ROWS)
        competitors = {
            "ours": partial(OurUpdate(world, STRICT), batch),
            "bare": BareUpdate(world, batch),
        }
        samples = interleaved(competitors, rounds=context.rounds(ROUNDS["update"]), warmups=0)
        return ratio(samples["ours"], samples["bare"])

    yield attempt(f"w5-update-{dtype}", f"update, W5 in {dtype}, against the bare loop", measure)


def step_rows(dtype: str, context: Context) -> Iterator[Row]:
    """A whole step against TRL, by response token."""

    def measure() -> Measured:
        rounds = context.rounds(ROUNDS["step"])
        return against_trl(w5(dtype, context), rounds, context.work / "trl")

    what = f"whole RL step, W5 in {dtype}, by response token, against TRL"
    yield attempt(f"w5-step-{dtype}", what, measure)


def memory_rows(dtype: str, context: Context) -> Iterator[Row]:
    """Peak memory of a process that takes one step, over that of one in which TRL does."""

    def measure() -> Measured:
        taken = {who: _peak(who, dtype, context) for who in ("ours", "trl")}
        return Measured(
            value=exact(taken["ours"] / taken["trl"]),
            unit="x TRL's",
            details={"bytes": taken},
            note=f"{taken['ours'] / 2**30:.1f} GiB, TRL {taken['trl'] / 2**30:.1f} GiB, at the "
            "smallest micro-batch of its sweep",
        )

    what = f"peak memory of one step, W5 in {dtype}, against TRL"
    yield attempt(f"w5-memory-{dtype}", what, measure)


def _share(share: Callable[[World, int], Measured], dtype: str, context: Context) -> Measured:
    return share(w5(dtype, context), context.rounds(ROUNDS["operations"]))


def _peak(who: str, dtype: str, context: Context) -> int:
    """Largest resident size of a process that takes one step.

    Raises:
        RuntimeError: it failed, with the last line it wrote.
    """
    command = [sys.executable, "-m", "benchmarks.performance.step_memory", who, dtype]
    command += ["--work", str(context.work)] + (["--quick"] if context.quick else [])
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"status {finished.returncode}"]
        raise RuntimeError(lines[-1])
    return int(finished.stdout.split()[-1])
