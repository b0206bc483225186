"""Planning of forward passes: rows of similar length share a pass, to reduce padding."""

import numpy as np
from jaxtyping import Int
from torch import Tensor

PASS_COST = 256
"""Overhead of a forward pass of a small model on one core, in positions of equal duration."""


def plan_passes(
    lengths: Int[Tensor, " B"], max_pass_positions: int, *, pass_cost: int = 0
) -> list[Int[Tensor, " _"]]:
    """Row indices of each pass, longest rows first, with minimal total cost.

    The cost of a pass is its number of positions, including padding, plus `pass_cost`. A pass has
    at most `max_pass_positions` positions, but at least one row.
    """
    order = lengths.argsort(descending=True, stable=True)
    longest_first = lengths[order].numpy()
    # least[i]: minimal cost of rows i, i + 1, ...; end[i]: end of the first pass of that plan
    rows = len(order)
    least = np.zeros(rows + 1, dtype=np.int64)
    end = np.zeros(rows, dtype=np.int64)
    for first in range(rows - 1, -1, -1):
        length = int(longest_first[first])
        most = min(rows - first, max(1, max_pass_positions // length))
        sizes = np.arange(1, most + 1)
        costs = sizes * length + least[first + 1 : first + 1 + most]
        best = int(costs[::-1].argmin())  # the largest pass among equal costs
        least[first] = costs[most - 1 - best] + pass_cost
        end[first] = first + most - best
    plan = []
    first = 0
    while first < rows:
        plan.append(order[first : end[first]])
        first = int(end[first])
    return plan
