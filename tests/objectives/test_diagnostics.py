import math

import pytest
import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives import (
    clip_diagnostics,
    mismatch_diagnostics,
    sampling_diagnostics,
    staleness_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)

NEVER = -math.inf


def logs(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def test_mismatch_of_a_worked_example() -> None:
    # u = pi_old / mu_old = 1/2, 5/2, 1. Only 5/2 exceeds tau = 2: 1/u = 2 does not.
    got = mismatch_diagnostics(logs(0.5, 0.2, 0.4), logs(0.25, 0.5, 0.4))
    assert got == pytest.approx(
        {
            "mismatch_kl_k1": (math.log(2) - math.log(2.5)) / 3,
            "mismatch_kl_k3": ((math.log(2) - 0.5) + (1.5 - math.log(2.5))) / 3,
            "extreme_token_fraction": 1 / 3,
        }
    )


def test_extreme_tokens_are_counted_in_both_directions() -> None:
    got = mismatch_diagnostics(logs(0.5, 0.1, 0.4, 0.4), logs(0.1, 0.5, 0.4, 0.3), tau=1.2)
    assert got["extreme_token_fraction"] == 3 / 4


def test_the_surprisal_gap_of_a_worked_example() -> None:
    # w = 2 and 1/2, entropies 1/2: d = 2 log 2 - 1/2 and (log 4) / 2 - 1/2 = log 2 - 1/2.
    got = sampling_diagnostics(logs(0.25, 0.5), logs(0.5, 0.25), torch.tensor([0.5, 0.5]))
    first, second = 2 * math.log(2) - 0.5, math.log(2) - 0.5
    assert got == pytest.approx(
        {
            "surprisal_gap": (first + second) / 2,
            "surprisal_gap_z": (first + second) / math.hypot(first, second),
        }
    )


@pytest.mark.parametrize("policy", [(0.5, 0.25, 0.25), (0.1, 0.2, 0.7), (1.0, 0.0, 0.0)])
def test_tokens_drawn_as_reported_have_no_surprisal_gap(policy: tuple[float, ...]) -> None:
    # Under mu = (1/2, 1/4, 1/4), the four tokens 0, 0, 1, 2 are the expectation itself.
    engine, trainer = torch.tensor([0.5, 0.5, 0.25, 0.25]), torch.tensor(policy)
    entropy = torch.special.entr(trainer).sum().expand(4)
    got = sampling_diagnostics(engine.log(), trainer[[0, 0, 1, 2]].log(), entropy)
    assert got == pytest.approx({"surprisal_gap": 0, "surprisal_gap_z": 0}, abs=1e-12)


def test_tokens_drawn_from_the_likelier_ones_only_leave_a_gap_below_0() -> None:
    # Drawn from (2/3, 1/3, 0), reported under (1/2, 1/4, 1/4), whose entropy is log(8) / 2.
    engine = torch.tensor([0.5, 0.5, 0.25]).log()
    entropy = torch.full((3,), math.log(8) / 2)
    gap = sampling_diagnostics(engine, engine, entropy)["surprisal_gap"]
    assert gap == pytest.approx(math.log(2) * 4 / 3 - math.log(8) / 2)
    assert gap < 0


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0 + 1e-6, 1.4, 3.0])
def test_policies_that_differ_by_a_temperature_show_its_ratio(ratio: float) -> None:
    engine = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    trainer = (ratio * engine).log_softmax(dim=0)
    entropy = torch.special.entr(trainer.exp()).sum().expand(4)
    got = temperature_diagnostics(engine, trainer, entropy)
    assert got == pytest.approx({"temperature_ratio": ratio, "temperature_share": 1})


def test_noise_without_a_slope_has_no_temperature() -> None:
    # Each engine probability meets log-mismatches of +1 and -1, so the line is level.
    engine = logs(0.4, 0.4, 0.1, 0.1)
    noise = torch.tensor([1.0, -1.0, 1.0, -1.0])
    got = temperature_diagnostics(engine, engine + noise, torch.zeros(4))
    assert got == pytest.approx({"temperature_ratio": 1, "temperature_share": 0})


def test_equal_policies_have_equal_temperatures() -> None:
    same = logs(0.4, 0.1)
    got = temperature_diagnostics(same, same, torch.zeros(2))
    assert got == {"temperature_ratio": 1.0, "temperature_share": 0.0}


def test_staleness_is_the_kl_of_the_old_policy_to_the_current_one() -> None:
    # u = pi_theta / pi_old = 2 and 1.
    got = staleness_diagnostics(old_logprobs=logs(0.25, 0.5), logprobs=logs(0.5, 0.5))
    assert got == pytest.approx({"staleness_kl_k3": (1 - math.log(2)) / 2})


def test_weights_of_a_worked_example() -> None:
    # w = 4 and 1: ess = 5**2 / (2 * 17).
    got = weight_diagnostics(logs(0.4, 0.1), logs(0.1, 0.1))
    assert got == pytest.approx({"ess": 25 / 34})


@pytest.mark.parametrize(
    ("log_weights", "ess"),
    [
        ([-30.0, -30.0, -30.0, -30.0], 1.0),
        ([35.0, -35.0, -35.0, -35.0], 1 / 4),
        ([0.0, 0.0, NEVER, NEVER], 1 / 2),
        ([NEVER, NEVER, NEVER, NEVER], 0.0),
    ],
)
def test_effective_sample_size_of_extreme_weights(log_weights: list[float], ess: float) -> None:
    rollout_logprobs = torch.full((4,), -36.0)
    logprobs = rollout_logprobs + torch.tensor(log_weights)
    got = weight_diagnostics(logprobs, rollout_logprobs)
    assert got["ess"] == pytest.approx(ess)


def test_bounds_are_shares_of_all_tokens_where_there_are_any() -> None:
    some, none = torch.tensor([True, False, False, True]), torch.zeros(4, dtype=torch.bool)
    assert clip_diagnostics(clipped_low=some, clipped_high=none, truncated=None, masked=~none) == {
        "clip_fraction_low": 0.5,
        "clip_fraction_high": 0.0,
        "masked_fraction": 1.0,
    }
    given = {"clipped_low": None, "clipped_high": None, "masked": None}
    assert clip_diagnostics(truncated=some, **given) == {"truncated_weight_fraction": 0.5}


def test_diagnostics_of_impossible_tokens_are_not_nan() -> None:
    every_pair = torch.tensor([[NEVER, NEVER, -1.0, -1.0], [NEVER, -1.0, NEVER, -1.0]])
    mismatch = mismatch_diagnostics(*every_pair)
    assert mismatch["mismatch_kl_k1"] == math.inf
    assert mismatch["extreme_token_fraction"] == 1 / 2
    everything = (
        mismatch
        | sampling_diagnostics(*every_pair, torch.ones(4))
        | temperature_diagnostics(*every_pair, torch.ones(4))
        | staleness_diagnostics(*every_pair)
        | weight_diagnostics(*every_pair)
    )
    assert not [name for name, value in everything.items() if math.isnan(value)]


NONE = torch.zeros(0)


@pytest.mark.parametrize(
    "diagnose",
    [
        lambda: mismatch_diagnostics(NONE, NONE),
        lambda: sampling_diagnostics(NONE, NONE, NONE),
        lambda: temperature_diagnostics(NONE, NONE, NONE),
        lambda: staleness_diagnostics(NONE, NONE),
        lambda: weight_diagnostics(NONE, NONE),
        lambda: clip_diagnostics(
            clipped_low=None, clipped_high=None, truncated=NONE.bool(), masked=None
        ),
    ],
    ids=["mismatch", "sampling", "temperature", "staleness", "weight", "limit"],
)
def test_diagnostics_of_no_token_are_refused(diagnose) -> None:
    with pytest.raises(UserError, match=r"require at least one loss token, got none\. Skip"):
        diagnose()
