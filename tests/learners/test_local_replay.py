"""Whose experts an update uses, whatever prompt the rows stand under and share."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from steadyrl.objectives import NLL, TokenTerms, routing_disagreement
from steadyrl.objectives.measurements import policy_metrics
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from tests.closeness import assert_close
from tests.learners.small import (
    count_rows,
    largest_difference,
    logprobs_of,
    made_up_batch,
    move_weights,
    sampled_batch,
    step,
    term_on,
    tiny_learner,
    tiny_learner_with,
    tiny_policy,
    weights_of,
    without_signal,
)

# Routing replay.


@pytest.mark.parametrize("budget", [24, 16384])
def test_r3_uses_the_routing_of_the_engine_in_scoring_and_update(budget: int) -> None:
    learner = tiny_learner(replay=RoutingReplay.R3, micro_batch_tokens=budget)
    batch = sampled_batch(learner.policy)
    replayed = learner.policy.score(
        batch.tokens, batch.attention_mask, batch.loss_mask, replay=batch.rollout_routing
    ).logprobs.detach()
    live = logprobs_of(learner.policy, batch.tokens).detach()
    scored = learner.score(batch)
    assert scored.old_logprobs is not None
    measured = learner.update([term_on(scored)], step=0, steps=1).measurements

    assert float((replayed - live)[batch.loss_mask].abs().max()) > 1e-3
    assert_close(scored.old_logprobs, replayed)
    assert policy_metrics(measured)["routing_disagreement_any_layer"] == 0


def test_r3_on_sampled_tokens_without_routing_is_refused() -> None:
    learner = tiny_learner(replay=RoutingReplay.R3)
    batch = replace(sampled_batch(learner.policy), rollout_routing=None)
    with pytest.raises(RuntimeError, match="the engine recorded none"):
        learner.update([term_on(batch)], step=0, steps=1)


def test_without_replay_trainer_and_engine_route_some_tokens_differently() -> None:
    learner = tiny_learner()
    batch = sampled_batch(learner.policy)
    measured = learner.update([term_on(batch)], step=0, steps=1).measurements

    assert policy_metrics(measured)["routing_disagreement"] > 0


@pytest.mark.parametrize("budget", [24, 16384])
def test_r2_replays_the_routing_recorded_in_scoring_after_the_weights_have_moved(
    budget: int,
) -> None:
    learner = tiny_learner(replay=RoutingReplay.R2, micro_batch_tokens=budget)
    batch = sampled_batch(learner.policy)
    scored = learner.score(batch)
    assert scored.old_routing is not None
    assert scored.rollout_routing is not None
    feeding = torch.nn.functional.pad(batch.loss_mask[:, 1:], (0, 1))
    expected = routing_disagreement(
        scored.rollout_routing.at(feeding), scored.old_routing.at(feeding)
    )
    move_weights(learner)
    whole = learner.update([term_on(scored)], step=1, steps=2).measurements
    live = tiny_learner_with(weights_of(learner)).update([term_on(batch)], step=1, steps=2)

    assert whole.routing is not None
    assert live.measurements.routing is not None
    assert whole.routing.tokens == expected.tokens == int(batch.loss_mask.sum())
    assert torch.equal(whole.routing.differing, expected.differing)
    assert whole.routing.differing_anywhere == expected.differing_anywhere
    assert not torch.equal(live.measurements.routing.differing, expected.differing)


def test_r2_changes_nothing_at_unchanged_weights() -> None:
    replaying, live = tiny_learner(replay=RoutingReplay.R2), tiny_learner()
    batch = sampled_batch(replaying.policy)
    gradients = step(replaying, replaying.score(batch)), step(live, live.score(batch))

    assert largest_difference(*gradients) == 0


@pytest.mark.parametrize("replay", RoutingReplay)
def test_rows_that_no_engine_sampled_run_under_every_replay(replay: RoutingReplay) -> None:
    batch = replace(made_up_batch(), rollout_logprobs=None)

    assert (
        largest_difference(step(tiny_learner(replay=replay), batch), step(tiny_learner(), batch))
        == 0
    )


# Rows that stand under another prompt than the one they were sampled under.


def reprompted_batch(policy: Policy, seed: int = 0) -> TokenBatch:
    """`sampled_batch` without the first token of its prompts; no engine saw these rows."""
    batch = sampled_batch(policy, seed=seed)
    length = batch.tokens.shape[1]
    shifted = {
        name: getattr(batch, name)[:, 1:length]
        for name in ("tokens", "attention_mask", "loss_mask", "advantages", "rollout_logprobs")
    }
    return replace(batch, **shifted, rollout_routing=None, reprompted=True)


@pytest.mark.parametrize("replay", RoutingReplay)
@pytest.mark.parametrize("skip", [True, False])
def test_reprompted_rows_leave_every_measurement_as_it_was(
    replay: RoutingReplay, skip: bool
) -> None:
    both, alone = (tiny_learner(replay=replay, skip_no_signal=skip) for _ in range(2))
    batch, other = sampled_batch(both.policy), reprompted_batch(both.policy, seed=1)
    together = both.update([term_on(batch), term_on(other)], step=0, steps=1)
    expected = alone.update([term_on(batch)], step=0, steps=1)

    found = policy_metrics(together.measurements)
    assert found == policy_metrics(expected.measurements)
    assert {"mismatch_kl_k3", "ess", "entropy", "routing_disagreement"} <= set(found)
    gradients = both.optimizer.gradients(), alone.optimizer.gradients()
    assert largest_difference(*gradients) > 1e-4


def test_skipped_reprompted_rows_are_not_even_run() -> None:
    learner = tiny_learner()
    rows = count_rows(learner)
    learner.update([term_on(without_signal(reprompted_batch(learner.policy)))], step=0, steps=1)

    assert rows == {"learned": 0, "measured": 0}


@pytest.mark.parametrize("replay", [RoutingReplay.R2, RoutingReplay.R3])
def test_reprompted_rows_replay_the_trainer_s_routes_under_their_own_prompt(
    replay: RoutingReplay,
) -> None:
    learner = tiny_learner(replay=replay, micro_batch_tokens=48)
    batch = reprompted_batch(learner.policy)
    live = tiny_policy().score(
        batch.tokens, batch.attention_mask, batch.loss_mask, record_routing=True
    )
    scored = learner.score(batch)
    assert scored.old_routing is not None
    assert live.routing is not None
    real = batch.attention_mask
    assert torch.equal(scored.old_routing.at(real), live.routing.at(real))
    move_weights(learner)
    moved = learner.policy.score(
        batch.tokens, batch.attention_mask, batch.loss_mask, replay=scored.old_routing
    ).logprobs.detach()
    unreplayed = logprobs_of(learner.policy, batch.tokens).detach() * batch.loss_mask
    seen = []

    def noting(terms: TokenTerms) -> Tensor:
        seen.append(terms.logprobs.detach()[terms.loss_mask])
        return NLL()(terms)

    learner.update([term_on(scored, noting)], step=1, steps=2)
    assert_close(torch.cat(seen).sort().values, moved[batch.loss_mask].sort().values)
    assert float((moved - unreplayed).abs().max()) > 1e-3


@pytest.mark.parametrize("replay", RoutingReplay)
def test_reprompted_rows_are_routed_live_at_the_old_weights(replay: RoutingReplay) -> None:
    batch = reprompted_batch(tiny_policy())
    gradients = step(tiny_learner(replay=replay), batch), step(tiny_learner(), batch)

    assert largest_difference(*gradients) == 0


def test_rows_are_scored_at_the_temperature_they_were_drawn_at() -> None:
    learner, batch = tiny_learner(temperature=2.5), made_up_batch()
    own = replace(batch, temperature=0.5)
    expected = logprobs_of(learner.policy, batch.tokens, temperature=0.5).detach()

    assert_close(learner.score(own).old_logprobs, expected * batch.loss_mask)


# What rows of a group begin with.


@pytest.mark.parametrize("budget", [24, 16384])
@pytest.mark.parametrize("replay", RoutingReplay)
def test_an_update_is_the_same_whether_beginnings_are_shared_or_not(
    replay: RoutingReplay, budget: int
) -> None:
    shared, whole = (
        tiny_learner(replay=replay, micro_batch_tokens=budget, share_prefixes=share)
        for share in ("always", "never")
    )
    batch = sampled_batch(shared.policy)
    scored, expected = shared.score(batch), whole.score(batch)
    assert scored.old_logprobs is not None
    assert_close(scored.old_logprobs, expected.old_logprobs)
    if replay is RoutingReplay.R2:
        assert scored.old_routing is not None
        assert expected.old_routing is not None
        real = batch.attention_mask
        assert torch.equal(scored.old_routing.at(real), expected.old_routing.at(real))
    for learner in (shared, whole):
        move_weights(learner)
    assert_close(step(shared, scored), step(whole, expected))


def test_beginnings_are_shared_where_the_setting_says_so() -> None:
    # Two prompts of 4 tokens with three answers of 16: 2 x 2 x 4 of 6 x 20 positions would be
    # saved, less than the quarter that is worth it.
    batch = sampled_batch(tiny_policy())

    def rows_run(share: str) -> int:
        learner = tiny_learner(share_prefixes=share)
        rows = count_rows(learner)
        step(learner, batch)
        return rows["learned"]

    assert rows_run("always") == 2 + 6
    assert rows_run("auto") == rows_run("never") == 6
