"""Truncated sampling: the trainer scores the distribution that the engine sampled from."""

from dataclasses import replace

import pytest
import torch

from steadyrl.engines.protocol import Sampling
from steadyrl.policies.numerics import Numerics
from steadyrl.records.support import Support
from tests.closeness import assert_close
from tests.learners.small import sampled_batch, tiny_learner, tiny_policy

CUTS = (
    Sampling(max_new_tokens=16, top_p=0.7),
    Sampling(max_new_tokens=16, top_k=3),
    Sampling(max_new_tokens=16, top_p=0.8, top_k=5, temperature=0.7),
)


@pytest.mark.parametrize("sampling", CUTS)
def test_equal_weights_give_every_token_the_ratio_1(sampling: Sampling) -> None:
    batch = sampled_batch(tiny_policy(), numerics=Numerics.FLOAT32, sampling=sampling)
    learner = tiny_learner(temperature=sampling.temperature)

    scored = learner.score(batch)
    assert scored.old_logprobs is not None
    assert batch.rollout_logprobs is not None
    assert_close(scored.old_logprobs, batch.rollout_logprobs, 90)

    whole = learner.score(replace(batch, support=None)).old_logprobs
    assert whole is not None
    assert float((batch.rollout_logprobs - whole)[batch.loss_mask].mean()) > 0.05


def test_rows_in_any_order_and_company_keep_their_supports() -> None:
    batch = sampled_batch(tiny_policy(), numerics=Numerics.FLOAT32, sampling=CUTS[0])
    learner = tiny_learner()
    whole = learner.score(batch).old_logprobs
    order = torch.tensor([5, 0, 3])
    some = batch.rows(order)
    alone = learner.score(some).old_logprobs
    assert whole is not None
    assert alone is not None
    assert_close(alone, whole[order, : some.tokens.shape[1]], 90)


def test_supports_are_split_and_joined_by_tokens() -> None:
    sets = [torch.tensor([4, 1]), None, torch.tensor([0])]
    support = Support.of(sets)
    assert support.excluded(5).tolist() == [
        [True, False, True, True, False],
        [False] * 5,
        [False, True, True, True, True],
    ]
    parts = support.split(2)
    assert [len(part) for part in parts] == [2, 1]
    joined = Support.joined([*parts, Support.whole(1)])
    assert joined.counts.tolist() == [2, 0, 1, 0]
    assert torch.equal(joined.excluded(5)[:3], support.excluded(5))
