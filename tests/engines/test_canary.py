"""What a canary makes of numbers: where a difference is one of numerics, and where a fault."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from steadyrl.engines.canary import (
    Canary,
    CanaryError,
    CanarySettings,
    EngineReading,
    make_probes,
    read_engine,
)
from steadyrl.engines.driver import drive
from steadyrl.policies.policy import Policy
from tests.engines.builders import local_engine

TRAINER = torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0])
NOISE = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
NEW_TOKENS = torch.tensor([-2.0, -1.0, -3.0, -2.5])


def reading(scores: Tensor, drawn: Tensor = NEW_TOKENS) -> EngineReading:
    return EngineReading(scores=scores, drawn=drawn, rescored=NEW_TOKENS)


def after_a_first_one(noise: float = 0.01) -> Canary:
    canary = Canary(CanarySettings())
    canary.compare(reading(TRAINER + noise * NOISE), TRAINER, 0)
    return canary


def test_it_tells_what_three_quarters_of_the_tokens_keep_to() -> None:
    differences = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9]) / 10
    canary = Canary(CanarySettings())
    metrics = canary.compare(reading(TRAINER - differences, NEW_TOKENS + 0.001), TRAINER, 3)
    # The quantile 0.75 of eight numbers lies a quarter of the way from the sixth to the seventh.
    assert metrics["canary_difference"] == pytest.approx(0.0625)
    assert metrics["canary_cache_difference"] == pytest.approx(0.001, rel=1e-3)


def test_a_difference_within_three_times_the_first_one_is_numerics() -> None:
    after_a_first_one().compare(reading(TRAINER + 0.029 * NOISE), TRAINER, 1)
    with pytest.raises(
        CanaryError, match=r"version 1, .* 0\.031 nats apart, .* limit of 0\.03 nats"
    ):
        after_a_first_one().compare(reading(TRAINER + 0.031 * NOISE), TRAINER, 1)


def test_it_grows_with_the_spread_of_scores() -> None:
    sharper = 2 * TRAINER
    after_a_first_one().compare(reading(sharper + 0.059 * NOISE), sharper, 1)
    with pytest.raises(CanaryError):
        after_a_first_one().compare(reading(sharper + 0.061 * NOISE), sharper, 1)


def test_equal_numerics_leave_room_for_a_changed_route() -> None:
    after_a_first_one(0.0).compare(reading(TRAINER + 9e-5 * NOISE), TRAINER, 1)
    with pytest.raises(CanaryError, match=r"0\.00011 nats apart, .* limit of 0\.0001 nats"):
        after_a_first_one(0.0).compare(reading(TRAINER + 1.1e-4 * NOISE), TRAINER, 1)


def test_one_token_in_eight_may_be_far_off() -> None:
    flipped = TRAINER + 0.01 * NOISE
    flipped[3] -= 2.0
    after_a_first_one().compare(reading(flipped), TRAINER, 1)


def test_tokens_that_are_not_numbers_are_a_fault() -> None:
    with pytest.raises(CanaryError):
        after_a_first_one().compare(reading(TRAINER * torch.nan), TRAINER, 1)
    with pytest.raises(CanaryError, match="At the first sync, "):
        Canary(CanarySettings()).compare(reading(TRAINER * torch.nan), TRAINER, 0)


def test_what_is_drawn_through_a_stale_cache_is_a_fault() -> None:
    canary = after_a_first_one()
    canary.compare(reading(TRAINER + 0.01 * NOISE, NEW_TOKENS + 0.009), TRAINER, 1)
    with pytest.raises(CanaryError, match="keys and values of older weights"):
        canary.compare(reading(TRAINER + 0.01 * NOISE, NEW_TOKENS + 0.011), TRAINER, 2)


def test_an_engine_that_stands_still_is_a_fault_once_the_trainer_has_moved() -> None:
    canary, still = after_a_first_one(), reading(TRAINER + 0.01 * NOISE)
    canary.compare(still, TRAINER + 0.005, 1)
    with pytest.raises(CanaryError, match=r"since version 0, .* moved by 0\.011 nats at version 2"):
        canary.compare(still, TRAINER + 0.011, 2)


def test_one_that_moves_late_is_not() -> None:
    canary = after_a_first_one()
    canary.compare(reading(TRAINER + 0.01 * NOISE), TRAINER + 0.008, 1)
    canary.compare(reading(TRAINER + 0.007 * NOISE), TRAINER + 0.008, 2)
    canary.compare(reading(TRAINER + 0.007 * NOISE), TRAINER + 0.016, 3)


def test_another_model_is_told_from_other_numerics_at_once() -> None:
    # Three quarters of the scores lie within 2.75 nats of their mean.
    def first(difference: float) -> None:
        Canary(CanarySettings(first_share=0.2)).compare(
            reading(TRAINER + difference * NOISE), TRAINER, 0
        )

    first(0.54)
    with pytest.raises(
        CanaryError, match=r"first sync, .* 0\.56 nats apart, .* limit of 0\.55 nats"
    ):
        first(0.56)


def test_what_is_normal_may_be_learned_anew() -> None:
    canary = after_a_first_one()
    canary.reset()
    canary.compare(reading(TRAINER + 0.3 * NOISE), TRAINER, 1)
    canary.compare(reading(TRAINER + 0.8 * NOISE), TRAINER, 2)


def test_probes_are_the_same_ones_everywhere_and_fit() -> None:
    settings = CanarySettings(probes=4, length=20)
    probes = make_probes(range(5, 50), settings, None)
    assert [probe.tolist() for probe in probes] == [
        probe.tolist() for probe in make_probes(range(5, 50), settings, 100)
    ]
    assert len(probes) == 4
    assert {len(probe) for probe in probes} == {20}
    assert all(5 <= int(token) < 50 for probe in probes for token in probe)
    short = make_probes(range(5, 50), settings, 16)
    assert {len(probe) + 4 for probe in short} == {15}


def test_a_reading_is_what_the_engine_says_of_the_probes(moe_policy: Policy) -> None:
    engine = local_engine(moe_policy)
    probes = make_probes(range(3, 90), CanarySettings(), None)
    found = drive(read_engine(engine, probes))
    tokens = torch.stack(probes)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    expected = moe_policy.score(tokens, everywhere, everywhere).logprobs[:, 1:].flatten()
    assert found.scores.shape == expected.shape
    assert (found.scores - expected).abs().max() < 1e-5
    assert (found.drawn - found.rescored).abs().max() < 1e-5
    assert len(found.drawn) <= 12


def test_a_factor_that_nothing_passes_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 1"):
        CanarySettings(factor=1.0)
