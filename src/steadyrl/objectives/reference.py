"""A penalty on the divergence from a reference policy, as a part of what is maximized."""

from enum import StrEnum
from typing import Any, Literal

from jaxtyping import Float
from pydantic import Field, SerializeAsAny, field_validator, model_validator
from torch import Tensor

from steadyrl.base.settings import Settings
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.objective_calls import token_masks, token_values
from steadyrl.objectives.quotient import log_quotient
from steadyrl.objectives.terms import TokenTerms

MAX_LOG_DISTANCE = 20.0
"""Bound of |log(pi_ref / pi_theta)|; beyond it no gradient passes."""

MAX_K3 = 10.0
"""Bound of a token's k3; beyond it no gradient passes."""


class ReferenceEstimator(StrEnum):
    """The estimate of a token's divergence, which is differentiated."""

    K2 = "k2"
    """Gradient of the reverse divergence, KL(pi_theta || pi_ref)."""

    K3 = "k3"
    """Gradient of the forward divergence, KL(pi_ref || pi_theta), whatever its own value says."""


class ReferenceKL(Settings):
    """A penalty on the divergence from the weights with which the stage began.

    Above a coefficient of 0 the trainer holds those weights a second time, in its own type, and
    scores every row under them: memory of one more model, and one more forward pass. Rows without
    advantage are no longer left out of the passes, since the penalty moves them too.
    """

    coefficient: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Weight of the divergence in the loss, beside an objective of weight 1."""

    estimator: ReferenceEstimator = ReferenceEstimator.K3
    """What is differentiated: k3 as in GRPO, or k2, whose gradient is that of the divergence of the
    policy from the reference."""

    @field_validator("estimator", mode="before")
    @classmethod
    def _has_a_gradient(cls, value: Any) -> Any:
        if value == "k1":
            raise ValueError(
                "the estimator is 'k1', whose gradient is grad log pi: its expectation is 0, so "
                "that it would hold nothing back. Use 'k3', or 'k2'."
            )
        return value

    @model_validator(mode="after")
    def _estimator_is_read(self) -> "ReferenceKL":
        if not self.is_on and self.estimator is not ReferenceEstimator.K3:
            raise ValueError(
                f"the estimator is {self.estimator.value!r}, but the coefficient is 0, so that "
                "nothing is estimated. Set a coefficient above 0, or leave both out."
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether there is a penalty."""
        return self.coefficient > 0

    def apply_to(self, objective: Objective, *, scale: float = 1.0) -> Objective:
        """The objective less the penalty, or itself at a coefficient of 0.

        Args:
            scale: What the loss term multiplies the objective by, and the penalty not.
        """
        if not self.is_on:
            return objective
        return Penalized(
            objective=objective, coefficient=self.coefficient / scale, estimator=self.estimator
        )


class Penalized(Objective):
    """An objective less a multiple of each token's divergence from the reference policy.

    J_t - coefficient * divergence_t
    """

    reads_reference = True

    name: Literal["penalized"] = "penalized"
    objective: SerializeAsAny[Objective]
    coefficient: float = Field(gt=0, allow_inf_nan=False)
    estimator: ReferenceEstimator = ReferenceEstimator.K3

    @property
    def corrects_mismatch(self) -> bool:  # type: ignore[override]
        """As the objective's."""
        return self.objective.corrects_mismatch

    @property
    def reads_responses(self) -> bool:  # type: ignore[override]
        """As the objective's."""
        return self.objective.reads_responses

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t - coefficient * divergence_t of each token."""
        values = token_values(self.objective, terms)
        return values - self.coefficient * reference_divergence(terms, self.estimator)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """As the objective's."""
        return token_masks(self.objective, terms)


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

    d is bounded by `MAX_LOG_DISTANCE` on both sides and k3 by `MAX_K3`, as in verl, the trainer of
    the ERL paper: a token that has become about 14 times rarer than under the reference is not
    pulled back.

    Source: arXiv:2402.03300, equation 4 (k3 in the loss); gradients of k1, k2 and k3 as losses:
    arXiv:2510.01555. k1, k2, k3 after J. Schulman, "Approximating KL divergence", 2020.
    """
    assert terms.ref_logprobs is not None
    ref = terms.ref_logprobs.detach().masked_fill(~terms.loss_mask, 0.0)
    now = terms.logprobs.masked_fill(~terms.loss_mask, 0.0)
    distance = log_quotient(ref, now).clamp(-MAX_LOG_DISTANCE, MAX_LOG_DISTANCE)
    if estimator is ReferenceEstimator.K2:
        return distance.square() / 2
    return (distance.expm1() - distance).clamp(max=MAX_K3)
