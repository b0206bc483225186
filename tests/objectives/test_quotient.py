import math

import pytest
import torch

from steadyrl.objectives.quotient import MAX_LOG_QUOTIENT, log_quotient

NEVER = -math.inf


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        (math.log(0.6), math.log(0.2), math.log(3.0)),
        (NEVER, NEVER, 0.0),
        (NEVER, -1.0, NEVER),
        (-1.0, NEVER, MAX_LOG_QUOTIENT),
        (-1.0, -101.0, MAX_LOG_QUOTIENT),
        (-101.0, -1.0, -100.0),
    ],
)
def test_quotient_of_probabilities_including_zero(
    numerator: float, denominator: float, expected: float
) -> None:
    got = log_quotient(torch.tensor([numerator]), torch.tensor([denominator])).item()
    assert got == pytest.approx(expected, abs=1e-15)


def test_nan_is_not_hidden() -> None:
    assert log_quotient(torch.tensor([math.nan]), torch.tensor([-1.0])).isnan().all()


def test_square_of_the_largest_quotient_fits_in_float32() -> None:
    largest = torch.tensor(MAX_LOG_QUOTIENT, dtype=torch.float32).exp()
    assert largest.square().isfinite()


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(NEVER, NEVER), (NEVER, -1.0), (-1.0, NEVER)]
)
def test_gradient_of_the_quotient_is_zero_when_a_probability_is(
    numerator: float, denominator: float
) -> None:
    logprobs = torch.tensor([numerator], requires_grad=True)
    log_quotient(logprobs, torch.tensor([denominator])).exp().sum().backward()
    assert logprobs.grad.tolist() == [0.0]
