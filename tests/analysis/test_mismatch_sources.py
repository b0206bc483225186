"""The account of every source, from log-probabilities that are known."""

from dataclasses import replace
from math import cosh

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.analysis.mismatch.passes import MU, NEW, OLD, Order, Pass, Rescored, Source
from steadyrl.analysis.mismatch.sources import Change, mismatch_sources
from steadyrl.base.errors import UserError
from steadyrl.objectives import k3
from steadyrl.records.routing import RoutingReplay

FIRST, LAST = Order.ROUTES_FIRST, Order.ROUTES_LAST
NO_ROUTES = torch.empty(2, 0)


def at(spread: float, mean: float = 0.0) -> Tensor:
    """log mu_old is -1 for both tokens; from there, this mean and +- this spread."""
    return torch.tensor([-1 + mean + spread, -1 + mean - spread], dtype=torch.float64)


def worked() -> Rescored:
    """Two tokens and one layer, in every pass."""
    return Rescored(
        rollout_logprobs=at(0),
        logprobs={
            Pass(MU, MU): at(0),
            Pass(OLD, MU): at(0.4),
            Pass(MU, OLD): at(0.3),
            Pass(OLD, OLD): at(0.6),
            Pass(NEW, OLD): at(0.4, mean=-0.05),
            Pass(OLD, NEW): at(0.7),
            Pass(NEW, MU): at(0.2),
            Pass(NEW, NEW): at(0.8, mean=-0.05),
        },
        flips={
            Source.ROUTING: torch.tensor([[False], [True]]),
            Source.STALE_ROUTING: torch.tensor([[True], [True]]),
        },
        margins=torch.tensor([[0.5], [0.25]]),
    )


def test_shares_are_covariances_with_the_whole() -> None:
    # All spreads have one direction, so a step's covariance with the whole, over the variance of
    # the whole, is its spread over the whole spread of 0.8. The steps' spreads are 0, 0.4, 0.6 -
    # 0.4, 0.4 - 0.6 and 0.8 - 0.4; in the other order 0, 0.3, 0.6 - 0.3, 0.7 - 0.6 and 0.8 - 0.7.
    orders = mismatch_sources(worked()).orders

    assert {s: c.share for s, c in orders[LAST].items()} == pytest.approx(
        {"decoding": 0, "numerics": 0.5, "routing": 0.25, "weights": -0.25, "stale_routing": 0.5}
    )
    assert {s: c.share for s, c in orders[FIRST].items()} == pytest.approx(
        {
            "decoding": 0,
            "routing": 0.375,
            "numerics": 0.375,
            "stale_routing": 0.125,
            "weights": 0.125,
        }
    )


def test_a_step_is_measured_as_the_distance_of_two_policies() -> None:
    # Numerics: log u is +- 0.4, with mean 0 and variance 0.16. k3 is the mean of exp(0.4) - 1 - 0.4
    # and exp(-0.4) - 1 + 0.4, so cosh(0.4) - 1. ESS is (sum u)^2 / (2 sum u^2), that is
    # (2 cosh 0.4)^2 / (4 cosh 0.8), and |log u| stays under log 2 = 0.69.
    numerics = mismatch_sources(worked()).orders[LAST][Source.NUMERICS]

    assert numerics.kl_k1 == pytest.approx(0)
    assert numerics.kl_k3 == pytest.approx(cosh(0.4) - 1)
    assert numerics.variance == pytest.approx(0.16)
    assert numerics.extreme_token_fraction == 0
    assert numerics.ess == pytest.approx(cosh(0.4) ** 2 / cosh(0.8))


def test_the_whole_runs_from_the_recorded_log_probabilities_to_the_last_policy() -> None:
    sources = mismatch_sources(worked())

    assert sources.tokens == 2
    assert sources.whole.kl_k1 == pytest.approx(0.05)
    assert sources.whole.variance == pytest.approx(0.64)
    assert sources.whole.share == pytest.approx(1)
    assert sources.whole.extreme_token_fraction == 1  # log u is 0.75 and -0.85, beyond log 2


def test_replay_leaves_the_pass_that_it_trains_on() -> None:
    # R2: the new weights under the routes of pi_old, spread 0.4; R3: under the engine's, 0.2.
    replayed = mismatch_sources(worked()).replayed

    assert replayed[RoutingReplay.R2].variance == pytest.approx(0.16)
    assert replayed[RoutingReplay.R2].share == pytest.approx(0.5)
    assert replayed[RoutingReplay.R3].variance == pytest.approx(0.04)
    assert replayed[RoutingReplay.R3].share == pytest.approx(0.25)


def test_flips_are_counted_by_source() -> None:
    # Against the engine one flip of two, at the margin 0.25; against pi_theta two.
    flips = mismatch_sources(worked()).flips

    assert flips[Source.ROUTING][0].share == 0.5
    assert flips[Source.ROUTING][0].margins_flipped == pytest.approx((0.25, 0.25, 0.25))
    assert flips[Source.ROUTING][0].margins_kept == pytest.approx((0.5, 0.5, 0.5))
    assert flips[Source.STALE_ROUTING][0].share == 1
    assert flips[Source.STALE_ROUTING][0].margins_kept is None


def test_without_newer_weights_the_whole_ends_at_pi_old_and_r2_changes_nothing() -> None:
    full = worked()
    logprobs = {p: values for p, values in full.logprobs.items() if NEW not in p}
    flips = {Source.ROUTING: full.flips[Source.ROUTING]}
    sources = mismatch_sources(replace(full, logprobs=logprobs, flips=flips))

    assert list(sources.orders[LAST]) == ["decoding", "numerics", "routing"]
    assert list(sources.orders[FIRST]) == ["decoding", "routing", "numerics"]
    assert sources.whole.variance == pytest.approx(0.36)
    assert sources.replayed[RoutingReplay.R2] == sources.whole
    assert sources.replayed[RoutingReplay.R3].variance == pytest.approx(0.16)
    assert list(sources.flips) == ["routing"]


def test_without_routes_there_is_one_order_and_nothing_to_replay() -> None:
    own = {Pass(MU, MU): at(0.1), Pass(OLD, OLD): at(0.3), Pass(NEW, NEW): at(0.4)}
    sources = mismatch_sources(
        Rescored(rollout_logprobs=at(0), logprobs=own, flips={}, margins=NO_ROUTES)
    )

    shares = {source: change.share for source, change in sources.orders[LAST].items()}
    assert shares == pytest.approx({"decoding": 0.25, "numerics": 0.5, "weights": 0.25})
    assert list(sources.orders) == [LAST]
    assert (sources.replayed, sources.flips) == ({}, {})


def test_what_does_not_vary_has_no_shares() -> None:
    own = {Pass(MU, MU): at(0), Pass(OLD, OLD): at(0)}
    sources = mismatch_sources(
        Rescored(rollout_logprobs=at(0), logprobs=own, flips={}, margins=NO_ROUTES)
    )

    assert sources.whole.share is None
    assert sources.orders[LAST][Source.NUMERICS] == Change(
        kl_k1=0.0,
        kl_k3=0.0,
        mean_absolute=0.0,
        variance=0.0,
        share=None,
        extreme_token_fraction=0.0,
        ess=1.0,
    )


def test_a_batch_without_loss_tokens_is_refused() -> None:
    nothing = torch.empty(0, dtype=torch.float64)
    own = {Pass(MU, MU): nothing, Pass(OLD, OLD): nothing}
    empty = Rescored(rollout_logprobs=nothing, logprobs=own, flips={}, margins=torch.empty(0, 0))

    with pytest.raises(UserError, match=r"require at least one loss token, got none"):
        mismatch_sources(empty)


TOKENS = st.lists(st.floats(-6, 0), min_size=9, max_size=9)


@given(st.lists(TOKENS, min_size=2, max_size=6))
def test_k1_and_shares_of_an_order_add_up_and_k3_is_never_negative(rows: list[list[float]]) -> None:
    rollout, *scored = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    names = worked().logprobs
    kept = torch.zeros(len(rollout), 1, dtype=torch.bool)
    sources = mismatch_sources(
        Rescored(
            rollout_logprobs=rollout,
            logprobs=dict(zip(names, scored, strict=True)),
            flips={Source.ROUTING: kept, Source.STALE_ROUTING: kept},
            margins=torch.ones(len(rollout), 1),
        )
    )

    for changes in sources.orders.values():
        found = list(changes.values())
        assert sum(c.kl_k1 for c in found) == pytest.approx(sources.whole.kl_k1, abs=1e-12)
        if sources.whole.variance > 1e-6:
            assert sum(c.share or 0.0 for c in found) == pytest.approx(1, abs=1e-6)
        assert min(c.kl_k3 for c in found) >= 0
    end = scored[list(names).index(Pass(NEW, NEW))]
    assert sources.whole.kl_k3 == pytest.approx(k3(rollout, end).mean().item())
