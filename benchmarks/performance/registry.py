"""Every group of rows, in the order in which they are measured."""

from functools import partial

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
    w5,
)

W5_MINUTES = {"rollout": 8, "operations": 4, "update": 6, "step": 15, "memory": 8}

W5 = tuple(
    Group(
        name=f"w5-{name}-{dtype}",
        rows=partial(rows, dtype),
        minutes=W5_MINUTES[name],
        always=False,
    )
    for name, rows in (
        ("rollout", w5.rollout_rows),
        ("operations", w5.operations_rows),
        ("update", w5.update_rows),
        ("step", w5.step_rows),
        ("memory", w5.memory_rows),
    )
    for dtype in ("float32", "bfloat16")
)
"""A real model, which `make real-model` fetches."""

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
    *W5,
)
