"""Every row once, within the budget; groups stay together where that saves enough."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.base.errors import UserError
from steadyrl.learners.micro_batches import (
    LEAST_SAVING,
    least_saving,
    plan_micro_batches,
)
from steadyrl.policies.passes import plan_passes
from steadyrl.records.token_batch import TokenBatch
from tests.learners.small import made_up_batch, tiny_policy


def batch_of(prompts: list[int], answers: list[list[int]]) -> TokenBatch:
    """Groups with prompts and answers of the given lengths; answers differ in their first token."""
    rows = [
        (group, [group + 1] * prompt + [50 + number] * length)
        for group, (prompt, lengths) in enumerate(zip(prompts, answers, strict=True))
        for number, length in enumerate(lengths)
    ]
    longest = max(len(tokens) for _, tokens in rows)
    attention_mask = torch.arange(longest) < torch.tensor([len(t) for _, t in rows])[:, None]
    return TokenBatch(
        tokens=torch.tensor([tokens + [0] * (longest - len(tokens)) for _, tokens in rows]),
        attention_mask=attention_mask,
        loss_mask=attention_mask,
        group_ids=torch.tensor([group for group, _ in rows]),
        response_ids=torch.arange(len(rows)),
        advantages=attention_mask.float(),
    )


def plan(
    batch: TokenBatch, max_pass_positions: int, saving: float = LEAST_SAVING
) -> list[list[int]]:
    rows = torch.arange(len(batch))
    micro_batches = plan_micro_batches(
        batch, rows, max_pass_positions, pass_cost=0, least_saving=saving
    )
    return [micro.rows.tolist() for micro in micro_batches]


GROUPS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4)


@given(
    answers=GROUPS,
    prompt=st.integers(1, 12),
    budget=st.integers(1, 60),
    saving=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_every_row_is_in_one_micro_batch(
    answers: list[list[int]], prompt: int, budget: int, saving: float
) -> None:
    batch = batch_of([prompt] * len(answers), answers)
    found = [row for rows in plan(batch, budget, saving) for row in rows]
    assert sorted(found) == list(range(len(batch)))


@given(answers=GROUPS, prompt=st.integers(1, 12), budget=st.integers(1, 60))
def test_a_micro_batch_of_groups_keeps_the_budget_or_is_one_row(
    answers: list[list[int]], prompt: int, budget: int
) -> None:
    batch = batch_of([prompt] * len(answers), answers)
    for rows in plan(batch, budget, 0.0):
        prefix_groups = {int(batch.group_ids[row]) for row in rows}
        own = sum(int(batch.lengths[row]) - prompt for row in rows)
        assert own + prompt * len(prefix_groups) <= budget or len(rows) == 1


def test_groups_stay_together_where_that_saves_enough() -> None:
    # Two prompts of 6 tokens with three answers each, of 1, 2 and 3 tokens: 48 positions as they
    # are. Sharing saves 2 x 2 x 6 = 24, half of them, and a group takes 6 + 6 = 12. With room for
    # 23 in place of 24, the last row is left over.
    batch = batch_of([6, 6], [[1, 2, 3], [3, 2, 1]])
    by_length = [rows.tolist() for rows in plan_passes(batch.lengths, 24)]
    assert plan(batch, 24, 0.49) == [[0, 1, 2, 3, 4, 5]]
    assert plan(batch, 23, 0.49) == [[0, 1, 2, 3, 4], [5]]
    assert plan(batch, 24, 0.51) == by_length
    assert len(by_length) > 1


def test_rows_that_were_not_chosen_take_no_part() -> None:
    batch = batch_of([6, 6], [[1, 2, 3], [3, 2, 1]])
    chosen = torch.tensor([1, 2, 5])
    (micro,) = plan_micro_batches(batch, chosen, 100, pass_cost=0, least_saving=0.0)
    assert sorted(micro.rows.tolist()) == [1, 2, 5]


def test_responses_stay_together_where_they_have_to() -> None:
    # Rows of 3, 9, 5, 4 and 2 tokens, of the responses 0, 1, 0, 1 and 2.
    batch = batch_of([1], [[2, 8, 4, 3, 1]])
    batch = replace(batch, response_ids=torch.tensor([0, 1, 0, 1, 2]))

    def whole(max_pass_positions: int, rows: list[int] | None = None) -> list[list[int]]:
        chosen = torch.tensor([0, 1, 2, 3, 4] if rows is None else rows, dtype=torch.long)
        parts = plan_micro_batches(
            batch, chosen, max_pass_positions, pass_cost=0, least_saving=0.0, whole_responses=True
        )
        return [part.rows.tolist() for part in parts]

    assert whole(1) == [[1, 3], [0, 2], [4]]  # a response, however long
    assert whole(15) == [[1, 3], [0, 2, 4]]  # 3 rows of 5
    assert whole(36) == [[1, 3, 0, 2], [4]]  # 4 rows of 9, padding included
    assert whole(45) == [[1, 3, 0, 2, 4]]
    assert whole(45, [4, 2, 0]) == [[2, 0, 4]]
    assert whole(45, []) == []


def test_responses_of_one_row_are_cut_as_if_they_need_not_stay_together() -> None:
    batch = batch_of([6, 6], [[1, 2, 3], [3, 2, 1]])
    rows = torch.arange(6)
    parts = plan_micro_batches(
        batch, rows, 23, pass_cost=0, least_saving=0.49, whole_responses=True
    )
    assert [part.rows.tolist() for part in parts] == plan(batch, 23, 0.49)


def shares(batch: TokenBatch, saving: float) -> bool:
    rows = torch.arange(len(batch))
    parts = plan_micro_batches(batch, rows, 100, pass_cost=0, least_saving=saving)
    return any(part.prefix_groups is not None for part in parts)


def test_what_is_saved_is_counted_in_positions() -> None:
    # 6 of 8 + 9 positions need not be computed: 0.353.
    batch = batch_of([6], [[2, 3]])
    assert shares(batch, 0.352)
    assert not shares(batch, 0.354)
    assert not shares(batch, 1.0)


def test_groups_that_begin_alike_by_chance_are_not_one() -> None:
    batch = replace(batch_of([6], [[2, 3]]), group_ids=torch.tensor([0, 1]))
    assert not shares(batch, 0.0)


def test_the_setting_says_how_much_must_be_saved() -> None:
    policy = tiny_policy()
    assert least_saving("never", policy) == 1.0
    assert least_saving("auto", policy) == LEAST_SAVING
    assert least_saving("always", policy) == 0.0
    policy.enable_activation_checkpointing()
    assert least_saving("auto", policy) == 1.0
    with pytest.raises(UserError, match=r"'always', but .* no keys and values\. Set it to 'auto'"):
        least_saving("always", policy)


def test_made_up_rows_that_differ_from_the_start_are_cut_by_length() -> None:
    batch = made_up_batch()
    assert plan(batch, 24) == [rows.tolist() for rows in plan_passes(batch.lengths, 24)]


def test_rows_that_share_are_named_by_their_groups() -> None:
    # Budget 12 is one group: 6 + 1 + 2 + 3. Both share; each micro-batch names its own group.
    batch = batch_of([6, 6], [[1, 2, 3], [3, 2, 1]])
    parts = plan_micro_batches(batch, torch.arange(6), 12, pass_cost=0, least_saving=0.0)
    found = [(part.rows.tolist(), part.prefix_groups) for part in parts]
    assert [rows for rows, _ in found] == [[0, 1, 2], [3, 4, 5]]
    assert [groups.tolist() for _, groups in found if groups is not None] == [[0] * 3, [1] * 3]


def test_a_row_that_is_alone_in_its_micro_batch_shares_nothing() -> None:
    batch = batch_of([6, 6], [[1, 2, 3], [3, 2, 1]])
    parts = plan_micro_batches(batch, torch.arange(6), 1, pass_cost=0, least_saving=0.0)
    assert [part.prefix_groups for part in parts] == [None] * 6


def test_a_teacher_s_rows_share_what_they_begin_with_and_not_what_the_policy_s_do() -> None:
    batch = batch_of([6], [[2, 3]])
    teacher = replace(batch_of([1], [[7, 8]]), group_ids=torch.tensor([0, 0]))
    batch = replace(batch, teacher=teacher)
    (micro,) = plan_micro_batches(
        batch, torch.arange(2), 100, pass_cost=0, least_saving=LEAST_SAVING
    )
    assert micro.prefix_groups is not None
    assert micro.teacher_prefix_groups is None  # 1 of 8 + 9 positions
