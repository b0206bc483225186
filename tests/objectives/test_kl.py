import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.objectives import k1, k3

LOGITS = st.lists(st.floats(-4, 4), min_size=4, max_size=4)


@settings(deadline=None, max_examples=60)
@given(logits_p=LOGITS, logits_q=LOGITS)
def test_expectation_of_both_estimators_is_the_exact_kl(
    logits_p: list[float], logits_q: list[float]
) -> None:
    logprobs_p = torch.tensor(logits_p).log_softmax(0)
    logprobs_q = torch.tensor(logits_q).log_softmax(0)
    pairs = zip(logprobs_p.tolist(), logprobs_q.tolist(), strict=True)
    exact = sum(math.exp(p) * (p - q) for p, q in pairs)
    for estimator in (k1, k3):
        expectation = (logprobs_p.exp() * estimator(logprobs_p, logprobs_q)).sum().item()
        assert expectation == pytest.approx(exact, abs=1e-12)


@settings(deadline=None)
@given(p=st.floats(-30, 0), q=st.floats(-30, 0))
def test_k3_is_never_negative(p: float, q: float) -> None:
    assert k3(torch.tensor(p), torch.tensor(q)).item() >= -1e-15


def test_estimators_of_a_worked_example() -> None:
    # p = 1/4, q = 1/2: u = 2, k1 = -log 2 is negative, k3 = 1 - log 2 is not.
    p, q = torch.tensor(1 / 4).log(), torch.tensor(1 / 2).log()
    assert k1(p, q).item() == pytest.approx(-math.log(2))
    assert k3(p, q).item() == pytest.approx(1 - math.log(2))


def test_k3_gradient_descends_towards_p() -> None:
    # d k3 / d log q = u - 1: positive where q is too likely.
    logprobs_q = torch.tensor([1 / 2, 1 / 8]).log().requires_grad_()
    k3(torch.tensor([1 / 4, 1 / 4]).log(), logprobs_q).sum().backward()
    assert logprobs_q.grad.tolist() == pytest.approx([1.0, -0.5])


@pytest.mark.parametrize("estimator", [k1, k3])
def test_kl_is_infinite_where_q_is_zero_and_nothing_where_both_are(estimator) -> None:
    never = torch.tensor(-math.inf)
    assert estimator(torch.tensor(-1.0), never).item() == math.inf
    assert estimator(never, never).item() == 0
    assert math.isfinite(estimator(never, torch.tensor(-1.0)).item())
