"""What the tests call equal up to rounding."""

import math

import pytest
import torch

from tests.closeness import assert_close, tolerance

EPS = 2.0**-23


def test_the_tolerance_grows_with_the_scale_and_the_terms() -> None:
    values = torch.tensor([0.5, -4.0])

    assert tolerance(values, terms=10) == 10 * EPS * 4
    assert tolerance(values.double(), terms=10) == 10 * 2.0**-52 * 4
    assert tolerance([0.5, -4.0], terms=10) == 10 * EPS * 4
    assert tolerance({"small": values / 4, "large": values}, terms=1) == EPS * 4


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_difference_counts_relative_to_the_largest_value(scale: float) -> None:
    expected = scale * torch.tensor([1.0, 1e-3])
    within, beyond = (expected + scale * n * EPS * torch.tensor([0.0, 1.0]) for n in (8, 12))

    assert_close(within, expected, terms=10)
    with pytest.raises(AssertionError, match=r"epsilons of the scale; 10 are allowed"):
        assert_close(beyond, expected, terms=10)


def test_the_least_precise_type_counts() -> None:
    exact = torch.tensor([1.0, 3.0], dtype=torch.float64)

    assert_close(exact.float() * (1 + 4 * EPS), exact, terms=8)
    with pytest.raises(AssertionError):
        assert_close(exact * (1 + 4 * EPS), exact, terms=8)
    assert_close(exact * (1 + 4 * EPS), exact, terms=8, dtype=torch.float32)


@pytest.mark.parametrize("found", [math.nan, math.inf])
def test_what_is_not_finite_is_close_to_nothing(found: float) -> None:
    with pytest.raises(AssertionError):
        assert_close([1.0, found], [1.0, 1.0])


def test_names_and_shapes_must_agree() -> None:
    one = torch.ones(2)
    with pytest.raises(AssertionError):
        assert_close({"a": one}, {"b": one})
    with pytest.raises(AssertionError):
        assert_close(one, one[:1])
    assert_close(one[:0], one[:0])
