"""What a step's tokens say of the three policies."""

import math

import pytest
import torch
from tests.closeness import assert_close
from torch import Tensor

from steadyrl.objectives import routing_disagreement
from steadyrl.objectives.measurements import TokenMeasurements, policy_metrics


def measured(**changes: Tensor | None) -> TokenMeasurements:
    """Four tokens, the last of which moved most."""
    values = {
        "rollout_logprobs": torch.tensor([0.5, 0.5, 0.5, 0.5]).log(),
        "old_logprobs": torch.tensor([0.5, 0.5, 0.5, 0.125]).log(),
        "logprobs": torch.tensor([0.5, 0.75, 0.25, 0.125]).log(),
        "entropy": torch.tensor([0.1, 0.2, 0.3, 0.6]),
        # Of an objective with clip bounds 0.2 and 0.27, and the cap 1.2.
        "clipped_low": torch.tensor([False, False, True, False]),
        "clipped_high": torch.tensor([False, True, False, False]),
        "truncated": torch.tensor([False, True, False, False]),
        # Token 0 in another order; token 1 elsewhere in layer 1; tokens 2 and 3 as the engine.
        "routing": routing_disagreement(
            torch.tensor([[[0, 1], [2, 3]]] * 4),
            torch.tensor([[[1, 0], [3, 2]], [[0, 1], [2, 0]], [[0, 1], [2, 3]], [[0, 1], [2, 3]]]),
        ),
    }
    return TokenMeasurements(**{**values, **changes})


def test_metrics_of_four_tokens() -> None:
    metrics = policy_metrics(measured())

    assert metrics.pop("routing_disagreement_per_layer") == [0, 1 / 4]
    # mismatch u = pi_old / mu_old: 1, 1, 1, 1/4; k1 = -log u, k3 = u - 1 - log u.
    # ratio r = pi / pi_old: 1, 3/2, 1/2, 1; k3 = r - 1 - log r.
    # surprisal -log pi: log 2, log(4/3), log 4, log 8; d = w times it, minus the entropy.
    # s = log 2 - entropy is 0.2, 0.1, 0, -0.3 around its mean, and log u = 0, 0, 0, -log 4:
    # covariance 0.3 log 4, variances 0.14 and 0.75 (log 4)^2.
    # weight w = pi / mu_old: 1, 3/2, 1/2, 1/4; ess = (13/4)^2 / (4 * (1 + 9/4 + 1/4 + 1/16)).
    gaps = [
        math.log(2) - 0.1,
        1.5 * math.log(4 / 3) - 0.2,
        0.5 * math.log(4) - 0.3,
        0.25 * math.log(8) - 0.6,
    ]
    expected = {
        "entropy": 0.3,
        "mismatch_kl_k1": math.log(4) / 4,
        "mismatch_kl_k3": (0.25 - 1 + math.log(4)) / 4,
        "extreme_token_fraction": 0.25,  # u = 1/4 alone is beyond a factor of 2
        "surprisal_gap": sum(gaps) / 4,
        "surprisal_gap_z": sum(gaps) / math.hypot(*gaps),
        "temperature_ratio": 1 - 0.3 * math.log(4) / 0.14,
        "temperature_share": 0.09 / (0.14 * 0.75),
        "staleness_kl_k3": (1.5 - 1 - math.log(1.5) + 0.5 - 1 + math.log(2)) / 4,
        "ess": (13 / 4) ** 2 / (4 * 57 / 16),
        "truncated_weight_fraction": 0.25,  # w = 3/2
        "clip_fraction_low": 0.25,  # A < 0 and r = 1/2
        "clip_fraction_high": 0.25,  # A > 0 and r = 3/2
        "routing_disagreement": 1 / 8,
        "routing_disagreement_any_layer": 1 / 4,
    }
    assert metrics.keys() == expected.keys()
    assert_close([*metrics.values()], [expected[name] for name in metrics], terms=16)


def test_tokens_that_no_engine_sampled_have_an_entropy_only() -> None:
    tokens = measured(rollout_logprobs=None, routing=None)

    assert policy_metrics(tokens) == pytest.approx({"entropy": 0.3})


def test_the_distance_from_a_reference_is_measured_where_there_is_one() -> None:
    # u = pi_ref / pi_theta: 1, 2/3, 2, 1; k3 = u - 1 - log u.
    ref = torch.tensor([0.5, 0.5, 0.5, 0.125]).log()
    expected = (2 / 3 - 1 + math.log(1.5) + 2 - 1 - math.log(2)) / 4

    assert_close(policy_metrics(measured(ref_logprobs=ref))["reference_kl"], expected, terms=16)
    assert "reference_kl" not in policy_metrics(measured())


def test_bounds_are_measured_where_there_are_any() -> None:
    some = torch.tensor([True, False, False, False])
    masks = {"clipped_low": None, "clipped_high": None, "truncated": None, "masked": some}
    metrics = policy_metrics(measured(**masks))

    assert metrics["masked_fraction"] == 0.25
    assert {"clip_fraction_low", "clip_fraction_high", "truncated_weight_fraction"}.isdisjoint(
        metrics
    )


def test_routing_is_compared_where_both_sides_have_it() -> None:
    names = policy_metrics(measured(routing=None))

    assert not any(name.startswith("routing") for name in names)
    assert "mismatch_kl_k3" in names


def test_measurements_of_several_updates_are_joined_in_order() -> None:
    one, other = measured(), measured(logprobs=torch.tensor([-1.0, -2.0, -3.0, -4.0]))
    joined = TokenMeasurements.join([one, other])

    assert torch.equal(joined.logprobs, torch.cat([one.logprobs, other.logprobs]))
    assert joined.routing is not None
    assert joined.routing.tokens == 8
    assert joined.routing.differing.tolist() == [0, 2]
    assert joined.routing.differing_anywhere == 2


def test_what_one_part_lacks_the_whole_lacks() -> None:
    joined = TokenMeasurements.join([measured(), measured(routing=None)])

    assert joined.routing is None
    assert joined.rollout_logprobs is not None


def test_no_tokens_give_no_metrics() -> None:
    assert policy_metrics(TokenMeasurements.join([])) == {}
