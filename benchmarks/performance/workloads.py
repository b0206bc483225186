"""W1 and W2 as the groups of rows get them."""

from dataclasses import replace

from benchmarks.performance.context import Context
from benchmarks.performance.demo_world import demo_world
from benchmarks.performance.long_tail_world import w2
from benchmarks.performance.worlds import World

SMALL = {"prompts": 4, "group_size": 4, "max_new_tokens": 64}
"""What a quick run makes of W2."""


def small_and_large(context: Context) -> tuple[World, World]:
    """W1 and W2."""
    return demo_world(context.work, context.device), large(context)


def large(context: Context) -> World:
    """W2."""
    world = w2(context.work, context.device)
    return replace(world, **SMALL) if context.quick else world
