"""Rescoring: each pass is what it says, steps add up, and what was not changed costs nothing."""

from dataclasses import replace

import pytest
import torch
from tests.closeness import assert_close, tolerance
from tests.learners.small import (
    made_up_batch,
    sampled_batch,
    tiny_learner,
    tiny_policy,
)
from torch import Tensor

from steadyrl.analysis.mismatch.passes import (
    MU,
    NEW,
    OLD,
    Order,
    Pass,
    Rescored,
    Source,
    rescore,
)
from steadyrl.analysis.mismatch.sources import mismatch_sources
from steadyrl.base.errors import UserError
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import Routing, RoutingReplay
from steadyrl.records.token_batch import TokenBatch

ORDERS = list(Order)


def updated_policy() -> Policy:
    """`tiny_policy` after an update of sorts: its weights differ by a factor near 1."""
    policy = tiny_policy()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight *= 1 + 0.05 * torch.randn(weight.shape, generator=generator)
    return policy


def engine_of(policy: Policy, numerics: Numerics = Numerics.FP8) -> Policy:
    return engine_policy(policy, numerics, WeightScaling.CHANNEL)


def rescored_sample(
    numerics: Numerics = Numerics.FP8, new: Policy | None = None, batch: TokenBatch | None = None
) -> Rescored:
    """What an engine of `tiny_policy` sampled, in every pass."""
    old = tiny_policy()
    batch = sampled_batch(old, numerics=numerics) if batch is None else batch
    return rescore(batch, engine=engine_of(old, numerics), old=old, new=new)


def log_ratios(rescored: Rescored, order: Order) -> dict[Source, Tensor]:
    return {s: after - before for s, (before, after) in rescored.steps(order).items()}


# Steps.


@pytest.mark.parametrize("order", ORDERS)
def test_log_ratios_of_the_steps_add_up_to_the_whole_token_by_token(order: Order) -> None:
    rescored = rescored_sample(new=updated_policy())
    ratios = log_ratios(rescored, order)
    whole = rescored.logprobs[Pass(NEW, NEW)] - rescored.rollout_logprobs

    assert set(ratios) == set(Source)
    assert all((ratio != 0).any() for ratio in ratios.values())
    torch.testing.assert_close(torch.stack([*ratios.values()]).sum(0), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_a_float32_engine_on_the_same_weights_leaves_nothing_to_explain(order: Order) -> None:
    rescored = rescored_sample(Numerics.FLOAT32, tiny_policy())
    sources = mismatch_sources(rescored)

    # k3 of a small difference is half its square.
    rounding = tolerance(rescored.rollout_logprobs, dtype=torch.float32) ** 2 / 2
    assert max(change.kl_k3 for change in sources.orders[order].values()) <= rounding
    assert sources.whole.kl_k3 <= rounding
    assert [layer.share for layers in sources.flips.values() for layer in layers] == [0] * 4


@pytest.mark.parametrize("order", ORDERS)
def test_equal_weights_make_the_steps_of_staleness_exactly_zero(order: Order) -> None:
    ratios = log_ratios(rescored_sample(new=tiny_policy()), order)

    assert not ratios[Source.WEIGHTS].any()
    assert not ratios[Source.STALE_ROUTING].any()
    assert ratios[Source.NUMERICS].any()


@pytest.mark.parametrize("order", ORDERS)
def test_routes_that_agree_make_the_step_of_routing_exactly_zero(order: Order) -> None:
    old = tiny_policy()
    batch = sampled_batch(old)
    with torch.no_grad():
        own = old.score(batch.tokens, batch.attention_mask, batch.loss_mask, record_routing=True)
    rescored = rescored_sample(batch=replace(batch, rollout_routing=own.routing))
    sources = mismatch_sources(rescored)

    assert not log_ratios(rescored, order)[Source.ROUTING].any()
    assert sources.replayed[RoutingReplay.R3] == sources.whole
    assert log_ratios(rescored_sample(batch=batch), order)[Source.ROUTING].any()


@pytest.mark.parametrize("order", ORDERS)
def test_decoding_without_rounding_differences_is_a_small_step(order: Order) -> None:
    # The engine's own model, in one pass instead of token by token: a few float32 roundings, which
    # FP8 now and then carries over the edge between two of its numbers.
    changes = mismatch_sources(rescored_sample(new=updated_policy())).orders[order]

    assert changes[Source.DECODING].variance < 1e-3 * changes[Source.NUMERICS].variance


def test_without_newer_weights_the_path_ends_at_pi_old() -> None:
    rescored = rescored_sample()

    assert rescored.end == OLD
    assert [source for source, _ in rescored.paths[Order.ROUTES_LAST]] == [
        "decoding",
        "numerics",
        "routing",
    ]
    assert all(NEW not in step for step in rescored.logprobs)


# Passes.


@pytest.mark.parametrize(
    ("replay", "expected"), [(RoutingReplay.NONE, OLD), (RoutingReplay.R3, MU)]
)
def test_pi_old_is_what_the_trainer_scores(replay: RoutingReplay, expected: str) -> None:
    batch = sampled_batch(tiny_policy())
    scored = tiny_learner(replay=replay).score(batch)
    assert scored.old_logprobs is not None

    assert_close(
        rescored_sample(batch=batch).logprobs[Pass(OLD, expected)],
        scored.old_logprobs[batch.loss_mask],
    )


PASSES = [Pass(p, r) for p in (MU, OLD, NEW) for r in (MU, OLD, NEW) if (p, r) != (MU, NEW)]


@pytest.mark.parametrize("step", PASSES)
def test_a_pass_is_scored_by_its_policy_under_its_routes(step: Pass) -> None:
    old, new = tiny_policy(), updated_policy()
    batch = sampled_batch(old)
    mask = batch.loss_mask

    def own_routes(policy: Policy) -> Routing | None:
        return policy.score(batch.tokens, batch.attention_mask, mask, record_routing=True).routing

    with torch.no_grad():
        routes = {MU: batch.rollout_routing, OLD: own_routes(old), NEW: own_routes(new)}
        policy = {MU: engine_of(old), OLD: old, NEW: new}[step.policy]
        expected = policy.score(
            batch.tokens, batch.attention_mask, mask, replay=routes[step.routes]
        ).logprobs
    found = rescored_sample(new=new, batch=batch).logprobs

    assert set(found) == set(PASSES)
    assert torch.equal(found[step], expected[mask].double())


def test_the_engine_s_policy_computes_in_the_engine_s_numerics_and_leaves_the_policy_alone() -> (
    None
):
    policy = tiny_policy()
    before = {name: weight.clone() for name, weight in policy.model.state_dict().items()}
    lowered = engine_of(policy, Numerics.BFLOAT16)

    assert lowered.model.dtype == torch.bfloat16
    after = policy.model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_temperature_is_that_of_the_sampling() -> None:
    old = tiny_policy()
    batch = sampled_batch(old)
    warm = rescore(batch, engine=engine_of(old), old=old, temperature=2.0)
    with torch.no_grad():
        scores = old.score(batch.tokens, batch.attention_mask, batch.loss_mask, temperature=2.0)

    assert torch.equal(warm.logprobs[Pass(OLD, OLD)], scores.logprobs[batch.loss_mask].double())


def test_flips_and_margins_are_those_of_the_token_before() -> None:
    old = tiny_policy()
    batch = sampled_batch(old)
    assert batch.rollout_routing is not None
    new = updated_policy()
    rescored = rescored_sample(new=new, batch=batch)
    with torch.no_grad():
        newer = new.model(batch.tokens, output_router_logits=True).router_logits
        logits = old.model(batch.tokens, output_router_logits=True).router_logits
    by_token, by_newer = (
        torch.stack(list(values), dim=1).view(*batch.tokens.shape, 2, -1)
        for values in (logits, newer)
    )
    ordered, experts = by_token.sort(descending=True)
    gaps = ordered[..., 1] - ordered[..., 2]  # two of four experts

    recorded = batch.rollout_routing.padded().experts
    places = [(row, t) for row, t in batch.loss_mask.nonzero().tolist()]
    assert len(places) == len(rescored.margins) > 40
    for number, (row, t) in enumerate(places):
        own = [set(layer) for layer in experts[row, t - 1, :, :2].tolist()]
        for source, others in (
            (Source.ROUTING, recorded[row, t - 1]),
            (Source.STALE_ROUTING, by_newer[row, t - 1].topk(2).indices),
        ):
            differ = [set(layer) != mine for layer, mine in zip(others.tolist(), own, strict=True)]
            assert rescored.flips[source][number].tolist() == differ
        assert_close(rescored.margins[number], gaps[row, t - 1])


def test_small_passes_find_what_a_large_one_finds() -> None:
    old, new = tiny_policy(), updated_policy()
    batch = sampled_batch(old)
    engine = engine_of(old)
    large = rescore(batch, engine=engine, old=old, new=new)
    small = rescore(batch, engine=engine, old=old, new=new, positions=1)

    assert torch.equal(small.rollout_logprobs, large.rollout_logprobs)
    assert all(torch.equal(small.flips[source], large.flips[source]) for source in large.flips)
    for step in (Pass(OLD, MU), Pass(NEW, OLD), Pass(NEW, NEW)):
        assert_close(small.logprobs[step], large.logprobs[step], dtype=torch.float32)


def test_choices_that_flip_have_small_margins() -> None:
    sources = mismatch_sources(rescored_sample(new=updated_policy()))
    layers = [layer for layers in sources.flips.values() for layer in layers if layer.share]

    assert layers
    for layer in layers:
        assert layer.margins_flipped is not None
        assert layer.margins_kept is not None
        assert layer.margins_flipped[1] < 0.5 * layer.margins_kept[1]


def test_a_dense_policy_has_numerics_and_weights_and_no_routing(dense_policy: Policy) -> None:
    batch = made_up_batch()
    engine = engine_of(dense_policy)
    rescored = rescore(batch, engine=engine, old=dense_policy, new=dense_policy)
    (path,) = rescored.paths.values()
    ratios = log_ratios(rescored, Order.ROUTES_LAST)

    assert [source for source, _ in path] == ["decoding", "numerics", "weights"]
    assert ratios[Source.NUMERICS].any()
    assert not ratios[Source.WEIGHTS].any()
    assert mismatch_sources(rescored).flips == {}


# What cannot be used.


def test_a_batch_that_no_engine_sampled_is_refused() -> None:
    with pytest.raises(UserError, match=r"has no rollout_logprobs\. Give a batch that an engine"):
        rescored_sample(batch=replace(made_up_batch(), rollout_logprobs=None))


def test_a_batch_whose_routes_were_not_recorded_is_refused() -> None:
    with pytest.raises(UserError, match=r"has no rollout_routing\. Sample it with an engine that"):
        rescored_sample(batch=made_up_batch())
