"""Every group of rows, in the order in which they are measured."""

from benchmarks.performance.context import Group
from benchmarks.performance.groups import (
    growth,
    learning,
    limits,
    memory,
    overlap,
    rollout,
    routing,
    step,
    update,
    w3,
)

GROUPS: tuple[Group, ...] = (
    Group(name="rollout", rows=rollout.rows, minutes=8),
    Group(name="update", rows=update.rows, minutes=6),
    Group(name="step", rows=step.rows, minutes=8),
    Group(name="learning", rows=learning.rows, minutes=5),
    Group(name="routing", rows=routing.rows, minutes=4),
    Group(name="memory", rows=memory.rows, minutes=1),
    Group(name="limits", rows=limits.rows, minutes=2),
    Group(name="overlap", rows=overlap.rows, minutes=5),
    Group(name="growth", rows=growth.rows, minutes=3),
    Group(name="w3", rows=w3.rows, minutes=15, device="cuda"),
)
