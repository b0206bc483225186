"""Candidates are joined, cut and scored by the tokens in whose place they stand."""

from dataclasses import replace

import torch
from tests.learners.small import completion_of, group_of

from steadyrl.algorithms.protocol import Rollout
from steadyrl.records.candidates import Candidates, with_old_logprobs
from steadyrl.records.plain_data import from_bytes, to_bytes
from steadyrl.records.support import Support


def numbered(first: int, tokens: int) -> Candidates:
    """Two candidates of each of `tokens` tokens, with consecutive ids."""
    ids = torch.arange(first, first + 2 * tokens).view(tokens, 2)
    return Candidates(ids=ids, logprobs=-ids / 10)


def test_parts_are_joined_in_order_and_cut_again() -> None:
    joined = Candidates.joined([numbered(0, 2), numbered(4, 1)])
    assert joined.ids.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert len(joined) == 3
    assert joined.first(2).ids.tolist() == numbered(0, 2).ids.tolist()
    assert torch.equal(joined.first(2).logprobs, numbered(0, 2).logprobs)


def test_scores_of_some_rows_return_to_them() -> None:
    rows = [numbered(0, 2), numbered(4, 0), numbered(10, 1)]
    parts = [
        (torch.tensor([2, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])),
        (torch.tensor([1]), torch.zeros(0, 2)),
    ]
    scored = with_old_logprobs(rows, parts)
    assert [row.old_logprobs.tolist() for row in scored] == [
        [[3.0, 4.0], [5.0, 6.0]],
        [],
        [[1.0, 2.0]],
    ]
    whole = Candidates.joined(scored)
    assert whole.old_logprobs.tolist() == [[3.0, 4.0], [5.0, 6.0], [1.0, 2.0]]
    assert Candidates.joined([scored[0], rows[2]]).old_logprobs is None
    assert whole.first(1).old_logprobs.tolist() == [[3.0, 4.0]]


def test_a_completion_is_cut_with_all_that_belongs_to_its_tokens() -> None:
    support = Support.of([torch.tensor([4, 1]), None, torch.tensor([0])])
    whole = replace(
        completion_of(3),
        support=support,
        candidates=numbered(0, 3),
        versions=torch.tensor([1, 1, 2]),
    )
    cut = whole.first(2)
    assert cut.token_ids.tolist() == [0, 1]
    assert len(cut.logprobs) == 2
    assert cut.versions.tolist() == [1, 1]
    assert (cut.support.ids.tolist(), cut.support.counts.tolist()) == ([4, 1], [2, 0])
    assert cut.candidates.ids.tolist() == [[0, 1], [2, 3]]


def test_candidates_of_a_waiting_rollout_are_read_as_they_were_written() -> None:
    completion = replace(completion_of(3), candidates=numbered(6, 3))
    read = from_bytes(Rollout, to_bytes(Rollout(groups=(group_of([[completion]]),))))
    ((again,),) = (trajectory.completions for trajectory in read.groups[0].trajectories)
    assert torch.equal(again.candidates.ids, completion.candidates.ids)
    assert torch.equal(again.candidates.logprobs, completion.candidates.logprobs)
