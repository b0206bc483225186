"""The penalty on leaving a reference: its values, its gradients, and their expectations."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.objectives import (
    MiniRL,
    ReferenceEstimator,
    ReferenceKL,
    TokenTerms,
    reference_divergence,
)
from steadyrl.objectives.reference import MAX_K3, MAX_LOG_DISTANCE

K2, K3 = ReferenceEstimator.K2, ReferenceEstimator.K3
LOGITS = st.lists(st.floats(-0.6, 0.6), min_size=4, max_size=4)
"""No quotient of two such policies is beyond exp(2.4), where k3 is 7.6: no bound is reached."""


def held_to(terms: TokenTerms, ref: Tensor) -> TokenTerms:
    return replace(terms, ref_logprobs=ref)


def gradient(terms: TokenTerms, estimator: ReferenceEstimator) -> Tensor:
    (grad,) = torch.autograd.grad(reference_divergence(terms, estimator).sum(), terms.logprobs)
    return grad


def test_values_and_gradients_of_a_worked_example(make_terms) -> None:
    # pi_ref / pi_theta is 2, 1 and 1/2: d = log 2, 0, -log 2.
    terms = make_terms([math.log(0.2), math.log(0.5), math.log(0.6)])
    terms = held_to(terms, torch.tensor([[0.4, 0.5, 0.3]]).log())
    d = math.log(2)

    k3 = [2 - 1 - d, 0.0, 0.5 - 1 + d]
    assert reference_divergence(terms, K3).flatten().tolist() == pytest.approx(k3)
    assert gradient(terms, K3).flatten().tolist() == pytest.approx([1 - 2, 0, 1 - 0.5])
    k2 = [d**2 / 2, 0.0, d**2 / 2]
    assert reference_divergence(terms, K2).flatten().tolist() == pytest.approx(k2)
    assert gradient(terms, K2).flatten().tolist() == pytest.approx([-d, 0, d])


@pytest.mark.parametrize("estimator", ReferenceEstimator)
def test_at_the_reference_there_is_neither_value_nor_gradient(
    estimator: ReferenceEstimator, scattered_terms: TokenTerms
) -> None:
    terms = held_to(scattered_terms, scattered_terms.logprobs.detach().clone())

    assert reference_divergence(terms, estimator).abs().max() == 0
    assert gradient(terms, estimator).abs().max() == 0


@settings(deadline=None, max_examples=60)
@given(logits=LOGITS, ref_logits=LOGITS)
def test_expected_gradients_are_those_of_the_two_divergences(
    logits: list[float], ref_logits: list[float]
) -> None:
    # Over a whole vocabulary: sum_v pi(v) * (gradient of the estimate at v), the sampling fixed.
    free = torch.tensor(logits, requires_grad=True)
    logprobs, ref = free.log_softmax(0), torch.tensor(ref_logits).log_softmax(0)
    terms = TokenTerms(
        logprobs=logprobs[None],
        old_logprobs=logprobs.detach()[None],
        rollout_logprobs=logprobs.detach()[None],
        advantages=torch.ones(1, 4),
        loss_mask=torch.ones(1, 4, dtype=torch.bool),
        ref_logprobs=ref[None],
    )
    reverse = (logprobs.exp() * (logprobs - ref)).sum()
    forward = (ref.exp() * (ref - logprobs)).sum()
    for estimator, divergence in ((K2, reverse), (K3, forward)):
        expected = (logprobs.detach().exp() * reference_divergence(terms, estimator)[0]).sum()
        found, exact = (
            torch.autograd.grad(value, free, retain_graph=True)[0]
            for value in (expected, divergence)
        )
        torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-9)
    value = (logprobs.exp() * reference_divergence(terms, K3)[0]).sum()
    assert value.item() == pytest.approx(reverse.item(), abs=1e-12)


@pytest.mark.parametrize("estimator", ReferenceEstimator)
def test_nothing_outside_the_loss_mask_is_read(estimator: ReferenceEstimator, make_terms) -> None:
    terms = make_terms([math.nan, -1.0, math.inf], mask=[False, True, False])
    terms = held_to(terms, torch.tensor([[-1.0, -2.0, math.nan]]))

    found = reference_divergence(terms, estimator)
    assert found[0, [0, 2]].tolist() == [0, 0]
    assert gradient(terms, estimator)[0, [0, 2]].tolist() == [0, 0]
    assert found[0, 1] > 0


def test_bounds_are_those_of_the_paper_s_trainer(make_terms) -> None:
    # d = 3: e^3 - 4 = 16.1 is cut at 10. d = -50 counts as -20, whose k3 of 19 is cut as well.
    # d = 2: e^2 - 3 = 4.39 passes.
    terms = held_to(make_terms([-4.0, -1.0, -3.0]), torch.tensor([[-1.0, -51.0, -1.0]]))

    values = reference_divergence(terms, K3).flatten().tolist()
    assert values == pytest.approx([MAX_K3, MAX_K3, math.exp(2) - 3])
    assert gradient(terms, K3).flatten().tolist() == pytest.approx([0, 0, 1 - math.exp(2)])
    assert reference_divergence(terms, K2)[0, 1].item() == MAX_LOG_DISTANCE**2 / 2
    assert gradient(terms, K2).flatten().tolist() == pytest.approx([-3, 0, -2])


@pytest.mark.parametrize("estimator", ReferenceEstimator)
def test_a_token_that_either_policy_cannot_write_is_bounded(
    estimator: ReferenceEstimator, make_terms
) -> None:
    terms = held_to(make_terms([-math.inf, -1.0]), torch.tensor([[-1.0, -math.inf]]))

    assert reference_divergence(terms, estimator).isfinite().all()
    assert gradient(terms, estimator).tolist() == [[0, 0]]


@pytest.mark.parametrize("estimator", ReferenceEstimator)
def test_a_penalised_objective_is_the_objective_less_the_penalty(
    estimator: ReferenceEstimator, scattered_terms: TokenTerms
) -> None:
    terms = held_to(scattered_terms, scattered_terms.rollout_logprobs)
    penalized = ReferenceKL(coefficient=0.5, estimator=estimator).apply_to(MiniRL(), scale=2.0)
    expected = MiniRL()(terms) - 0.25 * reference_divergence(terms, estimator)

    assert torch.equal(penalized(terms), expected)
