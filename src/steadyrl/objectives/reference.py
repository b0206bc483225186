"""The penalty on leaving a reference policy, as a part of what is maximised."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.quotient import log_quotient
from steadyrl.objectives.terms import TokenTerms

FARTHEST = 20.0
"""Bound of |log(pi_ref / pi_theta)|; beyond it no gradient passes."""

HIGHEST = 10.0
"""Bound of a token's k3; beyond it no gradient passes."""


class ReferenceEstimator(StrEnum):
    """What stands for the divergence of a token, and is differentiated."""

    K2 = "k2"
    """Gradient of the reverse divergence, KL(pi_theta || pi_ref)."""

    K3 = "k3"
    """Gradient of the forward divergence, KL(pi_ref || pi_theta), whatever its own value says."""


def reference_divergence(
    terms: TokenTerms, estimator: ReferenceEstimator = ReferenceEstimator.K3
) -> Float[Tensor, "B T"]:
    """The estimate of each token's divergence from the reference policy; 0 outside the loss mask.

    With d = log(pi_ref / pi_theta) of the sampled token, and its gradient by automatic
    differentiation:

        k1 = -d               grad log pi_theta
        k2 = d^2 / 2          -d grad log pi_theta
        k3 = exp(d) - 1 - d   (1 - exp(d)) grad log pi_theta

    For tokens drawn from pi_theta, k1 and k3 have the expectation KL(pi_theta || pi_ref). Their
    gradients do not have the expectation of its gradient, because the sampling depends on theta as
    well: that of k1 is 0, so that it is not offered, and that of k3 is grad KL(pi_ref || pi_theta).
    k2, whose value is biased, has grad KL(pi_theta || pi_ref). Both agree to first order in d. For
    tokens drawn from another policy, of older weights or of an engine, nothing is corrected.

    d is bounded by `FARTHEST` on both sides and k3 by `HIGHEST`, as in verl, the trainer of the ERL
    paper: a token that has become about 14 times rarer than under the reference is not pulled back.

    Source: arXiv:2402.03300, equation 4 (k3 in the loss); gradients of k1, k2 and k3 as losses:
    arXiv:2510.01555. k1, k2, k3 after J. Schulman, "Approximating KL divergence", 2020.
    """
    assert terms.ref_logprobs is not None
    ref = terms.ref_logprobs.detach().masked_fill(~terms.loss_mask, 0.0)
    now = terms.logprobs.masked_fill(~terms.loss_mask, 0.0)
    distance = log_quotient(ref, now).clamp(-FARTHEST, FARTHEST)
    if estimator is ReferenceEstimator.K2:
        return distance.square() / 2
    return (distance.expm1() - distance).clamp(max=HIGHEST)


def penalized(
    objective: Callable[[TokenTerms], Float[Tensor, "B T"]],
    coefficient: float,
    estimator: ReferenceEstimator,
) -> Callable[[TokenTerms], Float[Tensor, "B T"]]:
    """J_t - coefficient * divergence_t, of an objective J, as a function of token terms."""
    return partial(_penalized, objective, coefficient, estimator)


def _penalized(
    objective: Callable[[TokenTerms], Float[Tensor, "B T"]],
    coefficient: float,
    estimator: ReferenceEstimator,
    terms: TokenTerms,
) -> Float[Tensor, "B T"]:
    return objective(terms) - coefficient * reference_divergence(terms, estimator)
