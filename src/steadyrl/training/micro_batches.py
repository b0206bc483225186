"""Cutting a batch into micro-batches of rows of like length."""

from jaxtyping import Int
from torch import Tensor


def plan_micro_batches(lengths: Int[Tensor, " B"], token_budget: int) -> list[Int[Tensor, " _"]]:
    """Row indices of each micro-batch, longest rows first.

    A micro-batch holds at most `token_budget` positions, padding included, and one row at least.
    """
    order = lengths.argsort(descending=True, stable=True)
    plan = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        rows = max(1, token_budget // longest)
        plan.append(order[start : start + rows])
        start += rows
    return plan
