"""Which rows share a forward pass: those of like length, for a pass pads to the longest."""

import numpy as np
from jaxtyping import Int
from torch import Tensor

PASS_COST = 256
"""Positions that take as long as one more pass of a small model on one core."""


def plan_passes(
    lengths: Int[Tensor, " B"], most_positions: int, *, pass_cost: int = 0
) -> list[Int[Tensor, " _"]]:
    """Row indices of each pass, longest rows first: the plan that costs least.

    A pass costs its positions, padding included, and `pass_cost` of them for itself. It has at
    most `most_positions`, and one row at least.
    """
    order = lengths.argsort(descending=True, stable=True)
    longest_first = lengths[order].numpy()
    # least[i]: cost of the rows from i on, of which the first pass takes those before end[i]
    rows = len(order)
    least = np.zeros(rows + 1, dtype=np.int64)
    end = np.zeros(rows, dtype=np.int64)
    for first in range(rows - 1, -1, -1):
        length = int(longest_first[first])
        most = min(rows - first, max(1, most_positions // length))
        sizes = np.arange(1, most + 1)
        costs = sizes * length + least[first + 1 : first + 1 + most]
        best = int(costs[::-1].argmin())  # the largest of equally good ones
        least[first] = costs[most - 1 - best] + pass_cost
        end[first] = first + most - best
    plan = []
    first = 0
    while first < rows:
        plan.append(order[first : end[first]])
        first = int(end[first])
    return plan
