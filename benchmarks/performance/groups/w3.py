"""W3, for a GPU: the rows of rollout and update, and how near they come to the machine's limits."""

from collections.abc import Iterator
from functools import partial

from benchmarks.performance.context import Context
from benchmarks.performance.groups.limits import rollout_share, update_share
from benchmarks.performance.groups.rollout import OurRollout, transformers_rows
from benchmarks.performance.long_tail_world import w3
from benchmarks.performance.records import Measured, Row, attempt
from benchmarks.performance.timing import interleaved, rate_ratio, summary
from benchmarks.performance.worlds import World

from steadyrl.policies.numerics import Numerics

ROUNDS = 5
BATCH = 256


def rows(context: Context) -> Iterator[Row]:
    """Rollout, update and FP8."""
    world = w3(context.work, context.device)
    rounds = context.rounds(ROUNDS)
    yield from transformers_rows(world, context)
    for key, what, measure in (
        (
            "rollout-w3-bandwidth",
            f"rollout, W3, {BATCH} sequences at a time, bytes",
            partial(rollout_share, batch=BATCH),
        ),
        ("update-w3-mfu", "update, W3, operations", update_share),
        ("rollout-w3-fp8", "rollout, W3, FP8 against bf16", _fp8),
    ):
        yield attempt(key, what, partial(measure, world, rounds))


def _fp8(world: World, rounds: int) -> Measured:
    competitors = {"fp8": OurRollout(world, numerics=Numerics.FP8), "bf16": OurRollout(world)}
    samples = interleaved(competitors, rounds=rounds)
    return Measured(
        value=rate_ratio(samples["fp8"], samples["bf16"]),
        unit="x the tokens/s of bf16",
        details={name: summary(taken) for name, taken in samples.items()},
    )
