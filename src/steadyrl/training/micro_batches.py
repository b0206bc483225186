"""Cutting a batch into micro-batches of rows of like length."""

import numpy as np
from jaxtyping import Int
from torch import Tensor


def plan_micro_batches(
    lengths: Int[Tensor, " B"], token_budget: int, *, pass_cost: int = 0
) -> list[Int[Tensor, " _"]]:
    """Row indices of each micro-batch, longest rows first: the plan that costs least.

    A micro-batch costs its positions, padding included, and `pass_cost` of them for the pass
    itself. It holds at most `token_budget` positions, and one row at least.
    """
    order = lengths.argsort(descending=True, stable=True)
    longest_first = lengths[order].numpy()
    # least[i]: cost of the rows from i on, of which the first micro-batch takes those before end[i]
    rows = len(order)
    least = np.zeros(rows + 1, dtype=np.int64)
    end = np.zeros(rows, dtype=np.int64)
    for first in range(rows - 1, -1, -1):
        length = int(longest_first[first])
        most = min(rows - first, max(1, token_budget // length))
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
