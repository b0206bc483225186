"""Bytes of main memory that a plan puts on a machine, by purpose."""

from steadyrl.planning.costs import FLOAT32
from steadyrl.planning.plan import RunPlan
from steadyrl.planning.reading import learner_itemsize

COPIED = 3 * FLOAT32
"""Bytes of a parameter that a checkpoint copies: master and moments."""


def main_memory(plan: RunPlan) -> dict[str, float]:
    """Bytes on the machine of the loop, which needs most: its devices may be the learner's.

    The rest of its memory is Python, its libraries, tasks and responses, which are not planned.
    """
    count = float(plan.shape.parameters)
    layout = plan.layout
    ranks = layout.learner_devices
    here = min(ranks, layout.cluster.accelerator.per_machine)
    held = {
        "initial weights": count * learner_itemsize(plan.config),
        "weights of the last sync": count * FLOAT32,
        "routes": plan.route_bytes * (1 + plan.work.steps_ahead),
        "copies for a checkpoint": COPIED * count * here / ranks,
    }
    return {name: size for name, size in held.items() if size}
