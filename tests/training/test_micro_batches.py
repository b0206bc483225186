"""Every row once, within the budget, with little padding."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.training.micro_batches import plan_micro_batches

LENGTHS = st.lists(st.integers(1, 50), max_size=30)


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_every_row_is_in_one_micro_batch(lengths: list[int], budget: int) -> None:
    plan = plan_micro_batches(torch.tensor(lengths, dtype=torch.long), budget)

    assert sorted(row for rows in plan for row in rows.tolist()) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_a_micro_batch_keeps_the_budget_or_is_one_row(lengths: list[int], budget: int) -> None:
    for rows in plan_micro_batches(torch.tensor(lengths, dtype=torch.long), budget):
        padded = len(rows) * max(lengths[row] for row in rows.tolist())
        assert padded <= budget or len(rows) == 1


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_no_micro_batch_has_room_for_the_next_row(lengths: list[int], budget: int) -> None:
    plan = plan_micro_batches(torch.tensor(lengths, dtype=torch.long), budget)
    for rows in plan[:-1]:
        longest = max(lengths[row] for row in rows.tolist())
        assert (len(rows) + 1) * longest > budget


def test_rows_of_like_length_share_a_micro_batch() -> None:
    # Budget 8: 5 alone (two would be 10), then 4 and 3 (2 x 4 = 8), then 2 and 1 (2 x 2 = 4).
    plan = plan_micro_batches(torch.tensor([3, 1, 5, 2, 4]), 8)

    assert [rows.tolist() for rows in plan] == [[2], [4, 0], [3, 1]]
