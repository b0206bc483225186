"""One update is one optimiser step on one loss, however the batch is cut, skipped or recomputed."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.objectives import Aggregation, TokenTerms, minirl, nll
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.training.learner import LocalLearner, NonFiniteError
from steadyrl.training.measurements import Bounds, policy_metrics
from steadyrl.training.optimizer import OptimizerSettings
from tests.training.small import (
    UNCLIPPED,
    largest_difference,
    made_up_batch,
    sampled_batch,
    step,
    term_on,
    tiny_learner,
    tiny_policy,
    weights_of,
    without_signal,
)


def count_rows(learner: LocalLearner) -> dict[str, int]:
    """Rows that the trunk runs from now on, with and without gradient."""
    rows = {"learned": 0, "measured": 0}

    def count(_module: object, _args: object, inputs: dict[str, Tensor]) -> None:
        rows["learned" if torch.is_grad_enabled() else "measured"] += len(inputs["input_ids"])

    learner.policy.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return rows


def logprobs_of(policy: Policy, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities straight from the model's logits. Padding is on the right."""
    logits = policy.model(input_ids=tokens).logits.float() / temperature
    scores = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(scores, (1, 0))


# The gradient.


def test_update_follows_the_gradient_of_the_minirl_loss_written_out() -> None:
    learner, batch = tiny_learner(micro_batch_tokens=24), made_up_batch()
    policy = tiny_policy()
    logprobs = logprobs_of(policy, batch.tokens)
    # Before the update pi_theta is pi_old: no token is clipped, and the weight is pi_old / mu_old.
    weight = (logprobs.detach() - batch.rollout_logprobs).exp().clamp(max=5.0)
    objective = weight * batch.advantages * logprobs
    (-objective[batch.loss_mask].sum() / len(batch)).backward()
    expected = {name: w.grad for name, w in policy.model.named_parameters()}

    assert largest_difference(step(learner, batch), expected) < 1e-6


@settings(deadline=None, max_examples=12)
@given(
    budget=st.integers(1, 80),
    aggregation=st.sampled_from([a for a in Aggregation if a is not Aggregation.CONSTANT]),
)
def test_gradient_is_that_of_the_whole_batch_under_any_token_budget(
    budget: int, aggregation: Aggregation
) -> None:
    batch = made_up_batch()
    whole = step(tiny_learner(), batch, aggregation=aggregation)
    cut = step(tiny_learner(micro_batch_tokens=budget), batch, aggregation=aggregation)

    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-3
    assert largest_difference(cut, whole) < 1e-6


def test_terms_are_summed_with_their_scales() -> None:
    batch, other = made_up_batch(), made_up_batch(seed=5)
    together = tiny_learner()
    together.update(
        [term_on(batch, scale=0.5), term_on(other, nll, Aggregation.TOKEN_MEAN, scale=2.0)],
        step=0,
        steps=1,
    )
    first = step(tiny_learner(), batch)
    second = step(tiny_learner(), other, objective=nll, aggregation=Aggregation.TOKEN_MEAN)
    expected = {name: 0.5 * first[name] + 2.0 * second[name] for name in first}

    assert largest_difference(together.optimizer.gradients(), expected) < 1e-6


def test_loss_is_reported_as_it_was_minimised() -> None:
    batch = made_up_batch()
    update = tiny_learner(micro_batch_tokens=24).update(
        [term_on(batch, nll, Aggregation.TOKEN_MEAN)], step=0, steps=1
    )
    logprobs = logprobs_of(tiny_policy(), batch.tokens).detach()
    # Every row has a loss token, but only rows with an advantage are run: the third has none.
    learned = batch.loss_mask & (batch.advantages != 0)
    expected = -logprobs[learned].sum() / batch.loss_mask.sum()

    assert update.loss == pytest.approx(float(expected), abs=1e-5)


def test_activation_checkpointing_gives_the_same_weights() -> None:
    policy = tiny_policy()
    batch = sampled_batch(policy)
    plain = tiny_learner(replay=RoutingReplay.R3, micro_batch_tokens=48)
    frugal = tiny_learner(
        replay=RoutingReplay.R3, micro_batch_tokens=48, activation_checkpointing=True
    )
    recomputed = count_layers(frugal)
    gradients = step(plain, batch), step(frugal, batch)

    assert largest_difference(*gradients) < 1e-7
    assert largest_difference(weights_of(plain), weights_of(frugal)) < 1e-7
    assert recomputed["calls"] == 2 * recomputed["micro_batches"]


def count_layers(learner: LocalLearner) -> dict[str, int]:
    """How often the first layer's attention and the whole trunk run with gradient."""
    calls = {"calls": 0, "micro_batches": 0}

    def add(name: str) -> object:
        def count(*_: object) -> None:
            calls[name] += torch.is_grad_enabled()

        return count

    trunk = learner.policy.model.base_model
    trunk.layers[0].self_attn.register_forward_pre_hook(add("calls"))
    trunk.register_forward_pre_hook(add("micro_batches"))
    return calls


# Rows without signal.


def test_rows_without_signal_are_left_out_and_the_step_is_the_same() -> None:
    batches = [made_up_batch((1.0, 0.0, 0.0, -1.0), seed=n) for n in (1, 2)]
    skipping = tiny_learner(measure_skipped=False)
    running = tiny_learner(skip_no_signal=False)
    rows = count_rows(skipping), count_rows(running)
    for batch in batches:
        gradients = step(skipping, batch), step(running, batch)
        assert largest_difference(*gradients) < 1e-6

    assert largest_difference(weights_of(skipping), weights_of(running)) < 1e-6
    assert rows == ({"learned": 4, "measured": 0}, {"learned": 8, "measured": 0})


def test_a_batch_without_any_signal_moves_by_momentum_alone_whether_skipped_or_run() -> None:
    batch = made_up_batch()
    skipping, running = tiny_learner(), tiny_learner(skip_no_signal=False)
    for learner in (skipping, running):
        step(learner, batch)
    before = weights_of(skipping)
    rows = count_rows(skipping)
    for learner in (skipping, running):
        update = learner.update([term_on(without_signal(batch))], step=1, steps=2)
        assert update.gradient_norm == 0

    assert rows == {"learned": 0, "measured": len(batch)}
    assert largest_difference(weights_of(skipping), before) > 1e-4
    assert largest_difference(weights_of(skipping), weights_of(running)) < 1e-6


def test_skipped_rows_are_measured_on_every_token() -> None:
    batch = made_up_batch((1.0, 0.0, 0.0, -1.0))
    skipping, running = tiny_learner(), tiny_learner(skip_no_signal=False)
    rows = count_rows(skipping)
    measured, complete = (
        learner.update([term_on(batch)], step=0, steps=1).measurements
        for learner in (skipping, running)
    )

    assert rows == {"learned": 2, "measured": 2}
    assert len(measured.logprobs) == int(batch.loss_mask.sum())
    for name in ("logprobs", "old_logprobs", "entropy", "advantages", "rollout_logprobs"):
        values, expected = getattr(measured, name), getattr(complete, name)
        torch.testing.assert_close(values.sort().values, expected.sort().values)


def test_nothing_is_measured_where_skipped_rows_are_not() -> None:
    batch = made_up_batch((1.0, 0.0, 0.0, -1.0))
    learner = tiny_learner(measure_skipped=False)
    some = learner.update([term_on(batch)], step=0, steps=2).measurements
    none = learner.update([term_on(without_signal(batch))], step=1, steps=2).measurements

    assert len(some.logprobs) == int(batch.loss_mask[[0, 3]].sum())
    assert policy_metrics(none, Bounds()) == {}


def test_terms_that_do_not_depend_on_advantages_run_every_row() -> None:
    batch = without_signal(made_up_batch())
    learner = tiny_learner()
    rows = count_rows(learner)
    term = replace(term_on(batch, nll, Aggregation.TOKEN_MEAN), proportional_to_advantage=False)
    learner.update([term], step=0, steps=1)

    assert rows == {"learned": len(batch), "measured": 0}


# The three policies.


def test_first_update_is_its_own_old_policy() -> None:
    measured = tiny_learner().update([term_on(made_up_batch())], step=0, steps=1).measurements

    assert torch.equal(measured.logprobs, measured.old_logprobs)
    assert policy_metrics(measured, Bounds())["staleness_kl_k3"] == 0


def test_update_after_scoring_compares_new_weights_with_those_scored() -> None:
    learner, batch = tiny_learner(micro_batch_tokens=24), made_up_batch()
    frozen = logprobs_of(tiny_policy(), batch.tokens).detach()
    scored = learner.score(batch)
    step(learner, made_up_batch(seed=9))
    now = logprobs_of(learner.policy, batch.tokens).detach()
    term = replace(term_on(scored), proportional_to_advantage=False)
    measured = learner.update([term], step=1, steps=2).measurements

    assert float((now - frozen)[batch.loss_mask].abs().max()) > 1e-2
    for values, expected in ((measured.old_logprobs, frozen), (measured.logprobs, now)):
        torch.testing.assert_close(values.sort().values, expected[batch.loss_mask].sort().values)


def test_scoring_fills_in_old_logprobs_on_loss_tokens_and_changes_nothing_else() -> None:
    learner, batch = tiny_learner(micro_batch_tokens=24), made_up_batch()
    before = weights_of(learner)
    scored = learner.score(batch)
    expected = logprobs_of(learner.policy, batch.tokens).detach() * batch.loss_mask

    torch.testing.assert_close(scored.old_logprobs, expected)
    assert scored.old_routing is None
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


def test_logprobs_are_those_of_the_stage_temperature() -> None:
    learner, batch = tiny_learner(temperature=2.5), made_up_batch()
    expected = logprobs_of(learner.policy, batch.tokens, temperature=2.5).detach() * batch.loss_mask

    torch.testing.assert_close(learner.score(batch).old_logprobs, expected)


def test_micro_batches_without_rollout_logprobs_are_not_corrected() -> None:
    batch = replace(made_up_batch(), rollout_logprobs=None)
    trusted = step(tiny_learner(), batch)
    policy = tiny_policy()
    logprobs = logprobs_of(policy, batch.tokens)
    (-(batch.advantages * logprobs)[batch.loss_mask].sum() / len(batch)).backward()

    expected = {name: w.grad for name, w in policy.model.named_parameters()}
    assert largest_difference(trusted, expected) < 1e-6


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
    torch.testing.assert_close(scored.old_logprobs, replayed)
    assert policy_metrics(measured, Bounds())["routing_disagreement_any_layer"] == 0


def test_r3_on_sampled_tokens_without_routing_is_refused() -> None:
    learner = tiny_learner(replay=RoutingReplay.R3)
    batch = replace(sampled_batch(learner.policy), rollout_routing=None)
    with pytest.raises(RuntimeError, match="the engine recorded none"):
        learner.update([term_on(batch)], step=0, steps=1)


def test_without_replay_trainer_and_engine_route_some_tokens_differently() -> None:
    learner = tiny_learner()
    batch = sampled_batch(learner.policy)
    measured = learner.update([term_on(batch)], step=0, steps=1).measurements

    assert policy_metrics(measured, Bounds())["routing_disagreement"] > 0


@pytest.mark.parametrize("budget", [24, 16384])
def test_r2_replays_the_routing_recorded_in_scoring_after_the_weights_have_moved(
    budget: int,
) -> None:
    learner = tiny_learner(replay=RoutingReplay.R2, micro_batch_tokens=budget)
    batch = sampled_batch(learner.policy)
    scored = learner.score(batch)
    assert scored.old_routing is not None
    feeding = batch.loss_mask[:, 1:]
    old = scored.old_routing.experts[:, :-1][feeding]
    move_weights(learner)
    # Rows are measured longest first, as they are planned.
    whole = learner.update([term_on(scored)], step=1, steps=2).measurements
    live = tiny_learner_with(learner.weights()).update([term_on(batch)], step=1, steps=2)

    assert whole.trainer_routing is not None
    assert live.measurements.trainer_routing is not None
    assert sorted(whole.trainer_routing.flatten(1).tolist()) == sorted(old.flatten(1).tolist())
    assert sorted(live.measurements.trainer_routing.flatten(1).tolist()) != sorted(
        old.flatten(1).tolist()
    )


def tiny_learner_with(weights: dict[str, Tensor]) -> LocalLearner:
    learner = tiny_learner()
    learner.policy.model.load_state_dict(weights)
    return learner


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

    bounds = Bounds(clip_low=0.2, clip_high=0.27, weight_cap=5.0)
    found = policy_metrics(together.measurements, bounds)
    assert found == policy_metrics(expected.measurements, bounds)
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
    assert torch.equal(scored.old_routing.experts[real], live.routing.experts[real])
    move_weights(learner)
    moved = learner.policy.score(
        batch.tokens, batch.attention_mask, batch.loss_mask, replay=scored.old_routing
    ).logprobs.detach()
    unreplayed = logprobs_of(learner.policy, batch.tokens).detach() * batch.loss_mask
    seen = []

    def noting(terms: TokenTerms) -> Tensor:
        seen.append(terms.logprobs.detach()[terms.loss_mask])
        return nll(terms)

    learner.update([term_on(scored, noting)], step=1, steps=2)
    torch.testing.assert_close(torch.cat(seen).sort().values, moved[batch.loss_mask].sort().values)
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

    torch.testing.assert_close(learner.score(own).old_logprobs, expected * batch.loss_mask)


def move_weights(learner: LocalLearner) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.policy.model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))


# bfloat16, clipping, schedule.


def test_bfloat16_model_is_its_float32_masters_rounded() -> None:
    learner = tiny_learner(dtype=torch.bfloat16, micro_batch_tokens=24)
    before = weights_of(learner)
    for number in range(3):
        step(learner, made_up_batch(seed=number))
    masters = learner.optimizer.masters
    weights = dict(learner.policy.model.named_parameters())

    assert {master.dtype for master in masters.values()} == {torch.float32}
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert all(torch.equal(weights[n], m.bfloat16()) for n, m in masters.items())
    assert largest_difference(weights_of(learner), before) > 1e-3
    assert any(not torch.equal(m, weights[n].float()) for n, m in masters.items())


def test_bfloat16_gradients_of_micro_batches_are_summed_in_float32() -> None:
    batch = made_up_batch()
    one_row_each = tiny_learner(dtype=torch.bfloat16, micro_batch_tokens=1)
    summed = step(one_row_each, batch)
    expected: dict[str, Tensor] = {}
    weights = torch.where(batch.loss_mask, 1 / len(batch), 0.0)
    for row in batch.has_signal.nonzero().flatten().tolist():
        policy = tiny_policy(torch.bfloat16)
        micro = batch.rows(torch.tensor([row]))
        scores = policy.score(micro.tokens, micro.attention_mask, micro.loss_mask)
        terms = TokenTerms(
            logprobs=scores.logprobs,
            old_logprobs=scores.logprobs.detach(),
            rollout_logprobs=micro.rollout_logprobs,
            advantages=micro.advantages,
            loss_mask=micro.loss_mask,
        )
        (-(weights[row, : micro.tokens.shape[1]] * minirl(terms)).sum()).backward()
        for name, weight in policy.model.named_parameters():
            expected[name] = expected.get(name, 0) + weight.grad.float()

    assert {gradient.dtype for gradient in summed.values()} == {torch.float32}
    assert largest_difference(summed, expected) < 1e-6


def test_gradient_is_scaled_to_the_clip_and_its_norm_reported_before() -> None:
    batch = made_up_batch()
    free = step(tiny_learner(), batch)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in free.values()))
    clipping = UNCLIPPED.model_copy(update={"gradient_clip": norm / 4})
    learner = tiny_learner(optimizer=clipping)
    update = learner.update([term_on(batch)], step=0, steps=1)

    assert update.gradient_norm == pytest.approx(norm, rel=1e-5)
    expected = {name: gradient / 4 for name, gradient in free.items()}
    assert largest_difference(learner.optimizer.gradients(), expected) < 1e-6


def test_update_takes_the_learning_rate_of_its_place_and_counts_a_version() -> None:
    warming = OptimizerSettings(learning_rate=1e-3, warmup_steps=4)
    learner = tiny_learner(optimizer=warming)
    rates = [
        learner.update([term_on(made_up_batch())], step=n, steps=8).learning_rate for n in range(5)
    ]

    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])
    assert learner.policy_version == 5


def test_a_fresh_stage_forgets_momentum_and_keeps_weights() -> None:
    batch = made_up_batch()
    learner = tiny_learner()
    step(learner, batch)
    weights = weights_of(learner)
    learner.begin_stage(UNCLIPPED, 1.0, fresh=False)
    assert learner.optimizer.state()
    learner.begin_stage(UNCLIPPED, 1.0, fresh=True)

    assert learner.optimizer.state() == {}
    assert largest_difference(weights_of(learner), weights) == 0
    newcomer = tiny_learner_with(weights)
    gradients = step(learner, batch), step(newcomer, batch)
    assert largest_difference(*gradients) == 0
    assert largest_difference(weights_of(learner), weights_of(newcomer)) == 0


# What is not finite stops before the step.


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    learner = tiny_learner()
    before = weights_of(learner)

    def infinite(terms: TokenTerms) -> Tensor:
        return torch.where(terms.loss_mask, torch.inf, 0.0) * terms.logprobs

    with pytest.raises(
        NonFiniteError,
        match=r"At step 7, the loss is not finite\. 0 of \d+ log-probabilities are not finite\. "
        r"The optimiser step was not taken\. Set a lower learning_rate .* and resume it\.",
    ):
        learner.update([term_on(made_up_batch(), infinite)], step=7, steps=9)
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


def test_log_probabilities_that_are_not_finite_are_counted_in_the_message() -> None:
    learner = tiny_learner()
    with torch.no_grad():
        learner.policy.model.get_output_embeddings().weight[5] = torch.nan
    batch = made_up_batch((1.0,))
    tokens = int(batch.loss_mask.sum())

    with pytest.raises(NonFiniteError, match=f" {tokens} of {tokens} log-probabilities"):
        step(learner, batch)


def test_log_probabilities_of_skipped_rows_must_be_numbers_too() -> None:
    learner, batch = tiny_learner(), without_signal(made_up_batch((1.0,)))
    with torch.no_grad():
        learner.policy.model.get_output_embeddings().weight[5] = torch.nan
    tokens = int(batch.loss_mask.sum())

    with pytest.raises(
        NonFiniteError, match=rf"a log-probability is not finite\. {tokens} of {tokens} log-prob"
    ):
        step(learner, batch)
    assert learner.policy_version == 0


def test_a_gradient_that_is_not_finite_stops_before_the_step_and_is_named() -> None:
    learner = tiny_learner()
    before = weights_of(learner)

    def cliff(terms: TokenTerms) -> Tensor:
        # sqrt(0) = 0 has an infinite derivative, and inf * 0 is not a number.
        return (0 * terms.logprobs).sqrt()

    with pytest.raises(
        NonFiniteError, match=r"At step 3, the gradient of model\.\S+ is not finite\. The optimiser"
    ):
        learner.update([term_on(made_up_batch(), cliff)], step=3, steps=9)
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


def test_a_poisoned_update_leaves_no_trace_in_the_next() -> None:
    batch = made_up_batch()

    def cliff(terms: TokenTerms) -> Tensor:
        return (0 * terms.logprobs).sqrt()

    poisoned, clean = tiny_learner(), tiny_learner()
    with pytest.raises(NonFiniteError):
        poisoned.update([term_on(batch, cliff)], step=0, steps=2)
    gradients = step(poisoned, batch), step(clean, batch)

    assert largest_difference(*gradients) == 0
    assert largest_difference(weights_of(poisoned), weights_of(clean)) == 0
