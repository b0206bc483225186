"""The plan of the ranks' passes: the same number for each, every row once, no weight lost."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.learners.fsdp.plan import Planner, RankPass, join_scores
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.objectives import GSPO, NLL
from steadyrl.records.candidates import Candidates
from tests.learners.small import made_up_batch, term_on


def planner(ranks: int, budget: int = 24, least_saving: float = 1.0) -> Planner:
    chosen = LocalLearnerSettings(micro_batch_tokens=budget)
    return Planner(chosen, ranks, least_saving)


def reported(passes: list[list[RankPass]]) -> list[int]:
    """Rows of all passes that are not fillers, in order."""
    rows = [each.rows for own in passes for each in own if not each.is_filler]
    return sorted(torch.cat(rows).tolist()) if rows else []


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 9), ranks=st.integers(1, 5), budget=st.integers(1, 200))
def test_every_row_is_scored_once_in_as_many_passes_on_each_rank(
    rows: int, ranks: int, budget: int
) -> None:
    batch = made_up_batch((1.0,) * rows)
    passes = planner(ranks, budget).scoring(batch)
    assert len(passes) == ranks
    assert len({len(own) for own in passes}) == 1
    assert reported(passes) == list(range(rows))


@settings(deadline=None, max_examples=30)
@given(
    advantages=st.lists(st.sampled_from([0.0, 1.0, -0.5]), min_size=1, max_size=8),
    ranks=st.integers(1, 4),
    objective=st.sampled_from([NLL(), GSPO(clip_low=0.5, clip_high=0.5)]),
)
def test_weights_of_the_ranks_are_those_of_the_batch(
    advantages: list[float], ranks: int, objective: NLL | GSPO
) -> None:
    batch = made_up_batch(advantages)
    term = term_on(batch, objective)
    parts = [own[0] for own in planner(ranks).terms([term])]
    learned = [list(part.learned) for part in parts]
    measured = [list(part.measured) for part in parts]
    skips = objective.proportional_to_advantage
    expected = batch.has_signal if skips else torch.ones(len(batch), dtype=torch.bool)
    assert reported(learned) == expected.nonzero().flatten().tolist()
    assert reported(measured) == (~expected).nonzero().flatten().tolist()
    assert len({len(own) for own in learned}) == len({len(own) for own in measured}) == 1
    total = torch.zeros(batch.tokens.shape)
    for each in (each for own in learned for each in own):
        width = each.weights.shape[1]
        total[each.rows, :width] += each.weights
    assert torch.equal(total, term.weights * expected[:, None])


def test_micro_batches_are_divided_among_the_ranks() -> None:
    # Eight rows of equal length fit into one pass, which would leave the other rank idle.
    batch = made_up_batch((1.0,) * 8)
    batch = replace(batch, attention_mask=torch.ones_like(batch.attention_mask))
    passes = planner(2, budget=8192).scoring(batch)
    assert [[len(each.micro) for each in own] for own in passes] == [[4], [4]]


def test_scores_return_to_their_rows() -> None:
    batch = made_up_batch((1.0,) * 5)
    batch = replace(batch, candidates=tuple(map(candidates_of, batch.tokens, batch.loss_mask)))
    passes = planner(2, budget=12).scoring(batch)
    scored = [
        [
            (each.batch.tokens.float(), None, each.batch.token_candidates.ids.float())
            for each in own
            if not each.is_filler
        ]
        for own in passes
    ]
    joined = join_scores(batch, passes, scored, routed=False)
    assert joined.old_logprobs is not None
    assert torch.equal(joined.old_logprobs, batch.tokens.float())
    assert joined.old_routing is None
    likely = joined.token_candidates
    assert torch.equal(likely.old_logprobs, likely.ids.float())


def candidates_of(tokens: Tensor, loss_mask: Tensor) -> Candidates:
    """Two candidates of each loss token, that one and the next id."""
    ids = torch.stack([tokens[loss_mask], tokens[loss_mask] + 1], dim=1)
    return Candidates(ids=ids, logprobs=-ids.float())


@pytest.mark.parametrize("ranks", [2, 3])
def test_rows_of_a_response_stay_together(ranks: int) -> None:
    advantages = (1.0, -0.5, 1.0, -0.5, 0.0)
    batch = replace(made_up_batch(advantages), response_ids=torch.tensor([0, 1, 0, 1, 2]))
    term = term_on(batch, GSPO(clip_low=0.5, clip_high=0.5))
    parts = planner(ranks, budget=1).terms([term])
    held = [set(each.rows.tolist()) for own in parts for each in own[0].learned]
    assert {0, 2} <= next(rows for rows in held if 0 in rows)
    assert {1, 3} <= next(rows for rows in held if 1 in rows)
