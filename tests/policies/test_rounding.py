"""Stochastic rounding of float32 masters to bfloat16."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.policies.rounding import round_stochastically

DRAWS = 1 << 14


@given(st.floats(2.0**-100, 2.0**100), st.sampled_from([1, -1]), st.integers(0, 1 << 60))
def test_a_master_goes_to_its_neighbors_in_proportion_to_its_distances(
    magnitude: float, sign: int, seed: int
) -> None:
    master = torch.tensor(sign * magnitude)
    rounded = round_stochastically(master.expand(DRAWS), name="weight", seed=seed).double()
    # 8 significant bits: neighbors are multiples of 2^(exponent - 8), where |x| is in
    # [2^(exponent - 1), 2^exponent).
    distance = 2.0 ** (math.frexp(abs(master.item()))[1] - 8)
    lower = math.floor(master.item() / distance) * distance
    share = (master.item() - lower) / distance

    assert set(rounded.tolist()) <= {lower, lower + distance}
    noise = 6 * math.sqrt(share * (1 - share) / DRAWS)
    assert (rounded.mean().item() - lower) / distance == pytest.approx(share, abs=noise + 1e-9)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 2.0**-130, torch.inf, -torch.inf])
def test_what_bfloat16_holds_stays(value: float) -> None:
    masters = torch.full((64,), value)

    assert torch.equal(round_stochastically(masters, name="w", seed=1).float(), masters)


def test_thresholds_depend_on_seed_and_name_alone() -> None:
    masters = torch.rand(256, generator=torch.Generator().manual_seed(0))
    drawn = round_stochastically(masters, name="w", seed=1)

    assert torch.equal(drawn, round_stochastically(masters, name="w", seed=1))
    assert not torch.equal(drawn, round_stochastically(masters, name="v", seed=1))
    assert not torch.equal(drawn, round_stochastically(masters, name="w", seed=2))


def test_a_transposed_master_is_rounded_element_by_element() -> None:
    masters = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)).T
    rounded = round_stochastically(masters, name="w", seed=1)

    assert rounded.shape == masters.shape
    assert bool(((rounded.float() - masters).abs() <= 2.0**-8).all())
