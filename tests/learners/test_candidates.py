"""A learner scores the most probable tokens of the engine in the places of its loss tokens."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from steadyrl.engines.protocol import Sampling
from steadyrl.objectives import CandidateTerms, Reinforce, ScoreCentering, TokenTerms
from steadyrl.policies.numerics import Numerics
from steadyrl.records.token_batch import TokenBatch
from tests.closeness import assert_close
from tests.function_objective import FunctionObjective
from tests.learners.small import (
    MINIRL,
    move_weights,
    sampled_batch,
    step,
    term_on,
    tiny_learner,
    tiny_policy,
)


class Reading(FunctionObjective):
    """A function of terms with candidates."""

    reads_candidates = 4


def batch_of(temperature: float = 1.0, numerics: Numerics = Numerics.FLOAT32) -> TokenBatch:
    sampling = Sampling(max_new_tokens=16, temperature=temperature)
    return sampled_batch(tiny_policy(), numerics=numerics, sampling=sampling, candidates=4)


def read(learner, batch: TokenBatch) -> list[CandidateTerms]:
    """The candidates of each pass of an update."""
    seen: list[CandidateTerms] = []

    def look(terms: TokenTerms) -> Tensor:
        assert terms.candidates is not None
        assert len(terms.candidates.logprobs) == terms.loss_mask.sum()
        seen.append(terms.candidates)
        return terms.weighted_logprobs(terms.advantages)

    learner.update([term_on(batch, Reading(function=look, like=MINIRL))], step=0, steps=1)
    return seen


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("share", ["always", "never"])
def test_equal_weights_give_equal_candidates(temperature: float, share: str) -> None:
    batch = batch_of(temperature)
    learner = tiny_learner(temperature=temperature, share_prefixes=share, micro_batch_tokens=40)
    scored = learner.score(batch).token_candidates
    assert scored is not None
    assert_close(scored.old_logprobs, scored.logprobs, 90)
    assert torch.equal(scored.ids, batch.token_candidates.ids)


def test_rows_in_any_order_and_company_keep_their_candidates() -> None:
    batch, order = batch_of(), torch.tensor([5, 0, 3])
    whole = tiny_learner().score(batch)
    alone = tiny_learner(micro_batch_tokens=1).score(batch.rows(order))
    for row, own in zip(order.tolist(), alone.candidates, strict=True):
        assert torch.equal(own.ids, batch.candidates[row].ids)
        assert_close(own.old_logprobs, whole.candidates[row].old_logprobs, 90)


def test_an_update_reads_all_three_policies() -> None:
    batch = batch_of(numerics=Numerics.FP8)
    learner = tiny_learner()
    scored = learner.score(batch)
    move_weights(learner)
    (terms,) = read(learner, scored)
    likely = scored.token_candidates
    assert torch.equal(terms.rollout_logprobs, likely.logprobs)
    assert torch.equal(terms.old_logprobs, likely.old_logprobs)
    assert terms.logprobs.requires_grad
    for one, other in ((0, 1), (1, 2)):
        values = (terms.logprobs.detach(), terms.old_logprobs, terms.rollout_logprobs)
        assert (values[one] - values[other]).abs().mean() > 1e-3


def test_without_a_pass_before_the_update_old_is_now() -> None:
    (terms,) = read(tiny_learner(), batch_of(numerics=Numerics.FP8))
    assert torch.equal(terms.old_logprobs, terms.logprobs.detach())


def test_where_the_trainer_s_log_probabilities_are_the_engine_s_so_are_these() -> None:
    learner = tiny_learner(rollout_logprobs="trainer")
    (terms,) = read(learner, learner.score(batch_of()))
    assert torch.equal(terms.rollout_logprobs, terms.old_logprobs)


def test_an_engine_that_recorded_none_is_told() -> None:
    batch = replace(batch_of(), candidates=None)
    with pytest.raises(RuntimeError, match=r"reads the engine's most probable tokens, but the eng"):
        read(tiny_learner(), batch)


@pytest.mark.parametrize("share", ["always", "never"])
@pytest.mark.parametrize("candidates", [4, 1000])
def test_a_centered_update_is_the_sum_over_the_vocabulary(candidates: int, share: str) -> None:
    sampling = Sampling(max_new_tokens=16)
    batch = sampled_batch(
        tiny_policy(), numerics=Numerics.FP8, sampling=sampling, candidates=candidates
    )
    objective = ScoreCentering(candidates=candidates).apply_to(Reinforce())
    learner = tiny_learner(share_prefixes=share, micro_batch_tokens=60)
    found = step(learner, learner.score(batch), objective=objective)

    # The same from all logits. Tokens that are no candidates count as under the trainer.
    policy = tiny_policy()
    logprobs = policy.model(input_ids=batch.tokens).logits[:, :-1].log_softmax(-1)
    own = logprobs[batch.loss_mask[:, 1:]]
    likely, tokens = batch.token_candidates, batch.tokens[batch.loss_mask]
    head = torch.zeros_like(own, dtype=torch.bool).scatter(1, likely.ids.long(), True)
    mass = 1 - likely.logprobs.exp().sum(1, keepdim=True)
    tail = own.detach().exp().masked_fill(head, 0.0)
    engine = mass * tail / tail.sum(1, keepdim=True).clamp(min=1e-30)
    engine = engine.scatter(1, likely.ids.long(), likely.logprobs.exp())
    centered = own.gather(1, tokens[:, None])[:, 0] - (engine * own).sum(1)
    loss = -(batch.advantages[batch.loss_mask] * centered).sum() / batch.responses
    loss.backward()

    expected = {name: w.grad for name, w in policy.model.named_parameters() if w.grad is not None}
    norm = max(float(gradient.norm()) for gradient in expected.values())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) < 1e-5 * norm, name
    plain = step(tiny_learner(), batch, objective=Reinforce())
    assert max(float((found[n] - plain[n]).norm()) for n in plain) > 1e-3 * norm
