"""Rows of a token batch."""

from dataclasses import replace

import torch

from steadyrl.records.routing import Routing, fed_tokens_checksum
from steadyrl.records.token_batch import TokenBatch

# Three rows of 4, 2 and 3 tokens, in groups 0, 0 and 1.
TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
REAL = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
LOSS = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]]).bool()


def some_batch() -> TokenBatch:
    known = REAL & (torch.arange(4) < 3)
    routing = Routing.of(TOKENS[:, :, None, None].expand(-1, -1, 2, 1), known, TOKENS)
    return TokenBatch(
        tokens=TOKENS,
        attention_mask=REAL,
        loss_mask=LOSS,
        group_ids=torch.tensor([0, 0, 1]),
        response_ids=torch.tensor([4, 4, 7]),
        advantages=torch.tensor([[0.5], [0.0], [-0.5]]) * LOSS,
        rollout_logprobs=-TOKENS / 10,
        rollout_routing=routing,
        old_logprobs=-TOKENS / 100,
        old_routing=routing,
    )


def test_rows_are_cut_to_the_longest_of_them_in_every_field() -> None:
    rows = some_batch().rows(torch.tensor([2, 1]))
    assert rows.tokens.tolist() == [[7, 8, 9], [5, 6, 0]]
    assert rows.attention_mask.tolist() == [[True, True, True], [True, True, False]]
    assert rows.loss_mask.tolist() == [[False, True, True], [False, True, False]]
    assert rows.group_ids.tolist() == [1, 0]
    assert rows.response_ids.tolist() == [7, 4]
    assert rows.advantages.tolist() == [[0, -0.5, -0.5], [0, 0, 0]]
    assert rows.rollout_logprobs is not None
    assert rows.old_logprobs is not None
    assert torch.equal(rows.rollout_logprobs, -rows.tokens / 10)
    assert torch.equal(rows.old_logprobs, -rows.tokens / 100)
    for routing in (rows.rollout_routing, rows.old_routing):
        assert routing is not None
        known = rows.tokens[routing.known]
        assert torch.equal(routing.at(routing.known)[:, 1, 0], known)
        assert torch.equal(routing.fed_tokens, fed_tokens_checksum(rows.tokens, routing.known))


def test_rows_leave_out_what_is_not_there() -> None:
    batch = replace(
        some_batch(),
        rollout_logprobs=None,
        rollout_routing=None,
        old_logprobs=None,
        old_routing=None,
    )
    rows = batch.rows(torch.tensor([0]))
    assert rows.rollout_logprobs is rows.rollout_routing is rows.old_logprobs is None
    assert rows.old_routing is None


def test_rows_have_signal_where_an_advantage_meets_the_loss() -> None:
    batch = some_batch()
    assert (len(batch), batch.responses) == (3, 2)
    assert batch.lengths.tolist() == [4, 2, 3]
    assert batch.has_signal.tolist() == [True, False, True]
    outside = replace(batch, advantages=torch.where(LOSS, 0.0, 1.0))
    assert outside.has_signal.tolist() == [False, False, False]


def test_rows_take_what_belongs_to_them_along() -> None:
    longer = replace(some_batch(), tokens=TOKENS + 10)
    batch = replace(some_batch(), teacher=longer, reprompted=True, temperature=0.5)
    rows = batch.rows(torch.tensor([2, 1]))
    assert rows.reprompted
    assert rows.temperature == 0.5
    assert rows.teacher is not None
    assert rows.teacher.tokens.tolist() == [[17, 18, 19], [15, 16, 10]]


def test_tokens_are_measured_once_and_under_the_prompt_they_were_sampled_under() -> None:
    batch = some_batch()
    assert batch.is_measured
    assert not replace(batch, reprompted=True).is_measured
    assert not replace(batch, teacher=batch).is_measured
