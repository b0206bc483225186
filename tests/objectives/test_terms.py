import math

import pytest
import torch

from steadyrl.objectives import TokenTerms


def test_quotients_of_a_worked_example(make_terms) -> None:
    # pi_theta = 0.6, pi_old = 0.3, mu_old = 0.4: ratio 2, mismatch 3/4, weight 3/2.
    terms = make_terms([math.log(0.6)], old=[math.log(0.3)], rollout=[math.log(0.4)])
    assert terms.log_ratio.exp().item() == pytest.approx(2)
    assert terms.log_mismatch.exp().item() == pytest.approx(3 / 4)
    assert terms.log_weight.exp().item() == pytest.approx(3 / 2)


def test_weight_is_ratio_times_mismatch(scattered_terms: TokenTerms) -> None:
    # Equation 5 of arXiv:2512.01374.
    product = scattered_terms.log_ratio + scattered_terms.log_mismatch
    torch.testing.assert_close(scattered_terms.log_weight, product)


def test_quotients_are_zero_outside_the_loss_mask(make_terms) -> None:
    terms = make_terms(
        [math.nan, math.inf, -math.inf],
        old=[-1.0, math.nan, 3.0],
        rollout=[math.inf, -2.0, math.nan],
        mask=[False, False, False],
    )
    for quotient in (terms.log_ratio, terms.log_mismatch, terms.log_weight):
        assert quotient.tolist() == [[0.0, 0.0, 0.0]]


def test_only_the_current_policy_receives_a_gradient() -> None:
    current, old, rollout = (torch.full((1, 2), -p, requires_grad=True) for p in (1.0, 2.0, 3.0))
    terms = TokenTerms(
        logprobs=current,
        old_logprobs=old,
        rollout_logprobs=rollout,
        advantages=torch.ones(1, 2),
        loss_mask=torch.ones(1, 2, dtype=torch.bool),
    )
    quotients = terms.log_ratio + terms.log_mismatch + terms.log_weight
    quotients.sum().backward()
    assert current.grad.tolist() == [[2.0, 2.0]]
    assert old.grad is None
    assert rollout.grad is None


def test_coefficients_of_weighted_logprobs_are_constants(make_terms) -> None:
    terms = make_terms([-2.0, -3.0])
    terms.weighted_logprobs(5 * terms.logprobs).sum().backward()
    assert terms.logprobs.grad.tolist() == [[-10.0, -15.0]]


def test_zero_coefficient_times_log_zero_is_zero(make_terms) -> None:
    terms = make_terms([-math.inf, -2.0])
    value = terms.weighted_logprobs(torch.tensor([[0.0, 1.0]]))
    value.sum().backward()
    assert value.tolist() == [[0.0, -2.0]]
    assert terms.logprobs.grad.tolist() == [[0.0, 1.0]]
