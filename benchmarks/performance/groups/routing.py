"""What recording routes costs a rollout, and what replaying them costs an update."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks.performance.context import Context
from benchmarks.performance.groups.rollout import OurRollout
from benchmarks.performance.groups.update import STRICT, OurUpdate, rollout_batch, with_signal
from benchmarks.performance.records import Measured, Row, attempt
from benchmarks.performance.timing import Sample, interleaved, spread, summary
from benchmarks.performance.workloads import small_and_large
from benchmarks.performance.worlds import World

from steadyrl.records.routing import RoutingReplay

ROLLOUTS = {"W1": 61, "W2": 9}
UPDATES = {"W1": 41, "W2": 9}

PROMPTS = {"W1": 32, "W2": 2}
"""Percents need many short rounds, so W2 is cut to an eighth of its prompts."""


def rows(context: Context) -> Iterator[Row]:
    """W1 and W2, by processor time, for the differences are smaller than what a machine drifts."""
    for world in small_and_large(context):
        name = world.name.lower()
        world = replace(world, prompts=min(world.prompts, PROMPTS[world.name]))
        yield attempt(
            f"recording-{name}",
            f"recording routes, rollout, {world.name}",
            partial(_recording, world, context.rounds(ROLLOUTS[world.name])),
        )
        yield attempt(
            f"replaying-{name}",
            f"replaying routes, update, {world.name}",
            partial(_replaying, world, context.rounds(UPDATES[world.name])),
        )


def _recording(world: World, rounds: int) -> Measured:
    """Rollouts on equal random numbers, so of equal answers, with and without."""
    competitors = {
        "on": OurRollout(world, record_routing=True),
        "off": OurRollout(world),
    }
    return _measured(interleaved(competitors, rounds=rounds), "rollout")


def _replaying(world: World, rounds: int) -> Measured:
    """Updates on equal rows: with the engine's routes replayed, and with no routes at all."""
    batch = with_signal(rollout_batch(world, record_routing=True), every=1)
    without = replace(batch, rollout_routing=None)
    competitors = {
        "on": partial(OurUpdate(world, STRICT, replay=RoutingReplay.R3), batch),
        "off": partial(OurUpdate(world, STRICT), without),
    }
    return _measured(interleaved(competitors, rounds=rounds), "update")


def _measured(samples: dict[str, list[Sample]], part: str) -> Measured:
    ratios = [
        on.processor_seconds / off.processor_seconds - 1
        for on, off in zip(samples["on"], samples["off"], strict=True)
    ]
    return Measured(
        value=spread(ratios),
        unit=f"of the {part}'s processor time, added",
        details={"on": summary(samples["on"]), "off": summary(samples["off"])},
    )
