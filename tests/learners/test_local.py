"""One update is one optimiser step on one loss, however the batch is cut, skipped or recomputed."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.objectives import (
    GSPO,
    NLL,
    Aggregation,
    Masking,
    MiniRL,
    MismatchLevel,
    NoCorrection,
    TokenTerms,
)
from steadyrl.objectives.corrections import Correction
from steadyrl.objectives.measurements import policy_metrics
from steadyrl.records.routing import RoutingReplay
from tests.closeness import assert_close
from tests.learners.small import (
    UNCLIPPED,
    largest_difference,
    logprobs_of,
    made_up_batch,
    sampled_batch,
    step,
    term_on,
    tiny_learner,
    tiny_learner_with,
    tiny_policy,
    weights_of,
)
from tests.progress import Heard

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

    assert_close(step(learner, batch), expected)


def test_update_learns_where_user_code_has_turned_gradients_off() -> None:
    batch, learner = made_up_batch(), tiny_learner()
    expected = step(tiny_learner(), batch)
    with torch.no_grad():
        assert_close(step(learner, batch), expected)
        assert not torch.is_grad_enabled()


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
    assert_close(cut, whole)


@pytest.mark.parametrize(
    "correction",
    [NoCorrection(), Masking(level=MismatchLevel.SEQUENCE_GEOMETRIC_MEAN, low=0.8, high=1.3)],
)
def test_gradient_of_whole_responses_is_the_same_under_any_token_budget(
    correction: Correction,
) -> None:
    advantages = (1.0, -0.5, 1.0, -0.5, 0.0)
    batch = replace(made_up_batch(advantages), response_ids=torch.tensor([0, 1, 0, 1, 2]))
    old = tiny_learner().score(batch).old_logprobs
    assert old is not None
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(0))
    batch = replace(batch, old_logprobs=old + 0.1 * noise, rollout_logprobs=old + 0.2 * noise)
    term = term_on(batch, correction.apply_to(GSPO(clip_low=0.5, clip_high=0.5)))
    learners = tiny_learner(), tiny_learner(micro_batch_tokens=1)
    whole, cut = (learner.update([term], step=0, steps=1) for learner in learners)

    assert_close(cut.loss, whole.loss)
    assert whole.gradient_norm > 1e-3
    assert_close(*(learner.optimizer.gradients() for learner in learners))


def test_a_response_in_several_rows_weighs_as_much_as_one_in_a_single_row() -> None:
    rows = made_up_batch((1.0, 1.0, -1.0))
    batch = replace(rows, response_ids=torch.tensor([0, 0, 1]))
    of_responses, of_rows = step(tiny_learner(), batch), step(tiny_learner(), rows)

    # A mean over 2 responses in place of one over 3 rows.
    expected = {name: gradient * 3 / 2 for name, gradient in of_rows.items()}
    assert_close(of_responses, expected)


def test_terms_are_summed_with_their_scales() -> None:
    batch, other = made_up_batch(), made_up_batch(seed=5)
    together = tiny_learner()
    together.update(
        [term_on(batch, scale=0.5), term_on(other, NLL(), Aggregation.TOKEN_MEAN, scale=2.0)],
        step=0,
        steps=1,
    )
    first = step(tiny_learner(), batch)
    second = step(tiny_learner(), other, objective=NLL(), aggregation=Aggregation.TOKEN_MEAN)
    expected = {name: 0.5 * first[name] + 2.0 * second[name] for name in first}

    assert_close(together.optimizer.gradients(), expected)


def test_loss_is_reported_as_it_was_minimised() -> None:
    batch = made_up_batch()
    update = tiny_learner(micro_batch_tokens=24).update(
        [term_on(batch, NLL(), Aggregation.TOKEN_MEAN)], step=0, steps=1
    )
    logprobs = logprobs_of(tiny_policy(), batch.tokens).detach()
    expected = -logprobs[batch.loss_mask].sum() / batch.loss_mask.sum()

    assert_close(update.loss, float(expected))


def test_activation_checkpointing_gives_the_same_weights() -> None:
    policy = tiny_policy()
    batch = sampled_batch(policy)
    plain = tiny_learner(replay=RoutingReplay.R3, micro_batch_tokens=48)
    frugal = tiny_learner(
        replay=RoutingReplay.R3, micro_batch_tokens=48, activation_checkpointing=True
    )
    recomputed = count_layers(frugal)
    gradients = step(plain, batch), step(frugal, batch)

    assert_close(*gradients)
    assert_close(weights_of(plain), weights_of(frugal))
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


# The three policies.


def test_first_update_is_its_own_old_policy() -> None:
    measured = tiny_learner().update([term_on(made_up_batch())], step=0, steps=1).measurements

    assert torch.equal(measured.logprobs, measured.old_logprobs)
    assert policy_metrics(measured)["staleness_kl_k3"] == 0


def test_masks_of_the_objective_are_measured_on_every_token() -> None:
    batch = made_up_batch((1.0, -0.5, 0.0, 0.0, -1.0))
    old = tiny_learner().score(batch).old_logprobs
    assert old is not None
    # Mismatch e on the first two rows and 1 on the others; no response is stopped.
    shift = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])[:, None]
    batch = replace(batch, old_logprobs=old, rollout_logprobs=old - shift)
    correction = Masking(low=0.5, high=2.0)
    term = term_on(batch, correction.apply_to(GSPO(clip_low=0.5, clip_high=0.5)))
    found = policy_metrics(tiny_learner().update([term], step=0, steps=1).measurements)
    tokens = batch.loss_mask.sum(dim=1)

    assert found["masked_fraction"] == pytest.approx(float(tokens[:2].sum() / tokens.sum()))
    assert found["clip_fraction_low"] == found["clip_fraction_high"] == 0
    assert "truncated_weight_fraction" not in found


def test_update_after_scoring_compares_new_weights_with_those_scored() -> None:
    learner, batch = tiny_learner(micro_batch_tokens=24), made_up_batch()
    frozen = logprobs_of(tiny_policy(), batch.tokens).detach()
    scored = learner.score(batch)
    step(learner, made_up_batch(seed=9))
    now = logprobs_of(learner.policy, batch.tokens).detach()
    measured = learner.update([term_on(scored, NLL())], step=1, steps=2).measurements

    assert float((now - frozen)[batch.loss_mask].abs().max()) > 1e-2
    for values, expected in ((measured.old_logprobs, frozen), (measured.logprobs, now)):
        assert_close(values.sort().values, expected[batch.loss_mask].sort().values)


def test_scoring_fills_in_old_logprobs_on_loss_tokens_and_changes_nothing_else() -> None:
    learner, batch = tiny_learner(micro_batch_tokens=24), made_up_batch()
    before = weights_of(learner)
    scored = learner.score(batch)
    expected = logprobs_of(learner.policy, batch.tokens).detach() * batch.loss_mask

    assert_close(scored.old_logprobs, expected)
    assert scored.old_routing is None
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


def test_logprobs_are_those_of_the_stage_temperature() -> None:
    learner, batch = tiny_learner(temperature=2.5), made_up_batch()
    expected = logprobs_of(learner.policy, batch.tokens, temperature=2.5).detach() * batch.loss_mask

    assert_close(learner.score(batch).old_logprobs, expected)


def test_micro_batches_without_rollout_logprobs_are_not_corrected() -> None:
    batch = replace(made_up_batch(), rollout_logprobs=None)
    trusted = step(tiny_learner(), batch)
    policy = tiny_policy()
    logprobs = logprobs_of(policy, batch.tokens)
    (-(batch.advantages * logprobs)[batch.loss_mask].sum() / len(batch)).backward()

    expected = {name: w.grad for name, w in policy.model.named_parameters()}
    assert_close(trusted, expected)


# bfloat16, clipping, schedule.


def test_bfloat16_model_is_its_float32_masters_rounded() -> None:
    learner = tiny_learner(dtype=torch.bfloat16, rounding="nearest", micro_batch_tokens=24)
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
        (-(weights[row, : micro.tokens.shape[1]] * MiniRL()(terms)).sum()).backward()
        for name, weight in policy.model.named_parameters():
            expected[name] = expected.get(name, 0) + weight.grad.float()

    assert {gradient.dtype for gradient in summed.values()} == {torch.float32}
    assert_close(summed, expected)


def test_gradient_is_scaled_to_the_clip_and_its_norm_reported_before() -> None:
    batch = made_up_batch()
    free = step(tiny_learner(), batch)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in free.values()))
    clipping = UNCLIPPED.model_copy(update={"gradient_clip": norm / 4})
    learner = tiny_learner(optimizer=clipping)
    update = learner.update([term_on(batch)], step=0, steps=1)

    assert_close(update.gradient_norm, norm)
    expected = {name: gradient / 4 for name, gradient in free.items()}
    assert_close(learner.optimizer.gradients(), expected)


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


def test_rows_are_counted_while_they_are_scored_and_learned() -> None:
    heard, batch = Heard(), made_up_batch()
    settings = LocalLearnerSettings(micro_batch_tokens=24)
    learner = LocalLearner(tiny_policy(), settings, replay=RoutingReplay.NONE, progress=heard)
    rows = len(batch)
    learner.score(batch)
    scored = heard.of("rows")
    learner.update([term_on(batch)], step=0, steps=1)
    learned = heard.of("rows")[len(scored) :]

    for counted in (scored, learned):
        assert len(counted) > 1
        assert counted == sorted(counted)
        assert counted[-1] == (rows, rows)
