"""Every row once, within the budget, at the least cost."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.policies.passes import plan_passes

LENGTHS = st.lists(st.integers(1, 50), max_size=30)


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_every_row_is_in_one_pass(lengths: list[int], budget: int) -> None:
    plan = plan_passes(torch.tensor(lengths, dtype=torch.long), budget)

    assert sorted(row for rows in plan for row in rows.tolist()) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_a_pass_keeps_the_budget_or_is_one_row(lengths: list[int], budget: int) -> None:
    for rows in plan_passes(torch.tensor(lengths, dtype=torch.long), budget):
        padded = len(rows) * max(lengths[row] for row in rows.tolist())
        assert padded <= budget or len(rows) == 1


def cost(lengths: list[int], plan: list[list[int]], pass_cost: int) -> int:
    return sum(len(rows) * max(lengths[row] for row in rows) + pass_cost for rows in plan)


@given(
    lengths=st.lists(st.integers(1, 9), max_size=8),
    budget=st.integers(1, 30),
    pass_cost=st.integers(0, 20),
)
def test_no_cut_of_the_ordered_rows_costs_less(
    lengths: list[int], budget: int, pass_cost: int
) -> None:
    plan = plan_passes(torch.tensor(lengths, dtype=torch.long), budget, pass_cost=pass_cost)
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])

    def cheapest(rows: list[int]) -> int:
        """By trying every first micro-batch."""
        if not rows:
            return 0
        sizes = [n for n in range(1, len(rows) + 1) if n * lengths[rows[0]] <= budget] or [1]
        return min(n * lengths[rows[0]] + pass_cost + cheapest(rows[n:]) for n in sizes)

    assert cost(lengths, [rows.tolist() for rows in plan], pass_cost) == cheapest(order)


def test_rows_of_like_length_share_a_pass() -> None:
    # Lengths 9, 9, 2, 1. Cut after the nines: 18 + 2 x 2 = 22 positions, and two passes; in one
    # pass: 4 x 9 = 36 positions. So two passes pay as long as one costs less than 14.
    lengths = torch.tensor([2, 9, 1, 9])

    def plan(pass_cost: int) -> list[list[int]]:
        return [r.tolist() for r in plan_passes(lengths, 100, pass_cost=pass_cost)]

    assert plan(13) == [[1, 3], [0, 2]]
    assert plan(15) == [[1, 3, 0, 2]]
