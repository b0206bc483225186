"""KL penalty on the divergence from a reference policy, subtracted from the objective."""

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
"""Upper bound of |log(pi_ref / pi_theta)|. The gradient is 0 beyond it."""

MAX_K3 = 10.0
"""Upper bound of a token's k3. The gradient is 0 beyond it."""


class ReferenceEstimator(StrEnum):
    """Per-token estimator of the divergence that is differentiated."""

    K2 = "k2"
    """Gradient of the reverse divergence, KL(pi_theta || pi_ref)."""

    K3 = "k3"
    """Gradient of the forward divergence, KL(pi_ref || pi_theta), although its value estimates the
    reverse divergence."""


class ReferenceKL(Settings):
    """KL penalty on the divergence from the initial weights of the stage.

    With a coefficient above 0 the trainer keeps a copy of these weights, in its own dtype, and
    scores every row under them. This costs the memory of another model and another forward pass.
    Rows with zero advantages are no longer skipped, since the penalty also has a gradient there.
    """

    coefficient: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Weight of the divergence in the loss, relative to an objective of weight 1."""

    estimator: ReferenceEstimator = ReferenceEstimator.K3
    """Estimator that is differentiated: k3, as in GRPO, or k2, whose gradient is the gradient of
    KL(policy || reference)."""

    @field_validator("estimator", mode="before")
    @classmethod
    def _has_a_gradient(cls, value: Any) -> Any:
        if value == "k1":
            raise ValueError(
                "the estimator is 'k1', whose gradient is grad log pi: its expectation is 0, so it "
                "has no effect. Use 'k3' or 'k2'."
            )
        return value

    @model_validator(mode="after")
    def _estimator_is_read(self) -> "ReferenceKL":
        if not self.is_on and self.estimator is not ReferenceEstimator.K3:
            raise ValueError(
                f"the estimator is {self.estimator.value!r}, but the coefficient is 0, so there is "
                "no penalty. Set a coefficient above 0, or leave both out."
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether the penalty is enabled."""
        return self.coefficient > 0

    def apply_to(self, objective: Objective, *, scale: float = 1.0) -> Objective:
        """Returns the objective minus the penalty, or unchanged if the coefficient is 0.

        Args:
            scale: Factor by which the loss term multiplies the result. The penalty is divided by
                it, so that only the objective is scaled.
        """
        if not self.is_on:
            return objective
        return Penalized(
            objective=objective, coefficient=self.coefficient / scale, estimator=self.estimator
        )


class Penalized(Objective):
    """An objective minus a multiple of each token's divergence from the reference policy.

    J_t - coefficient * divergence_t
    """

    reads_reference = True

    name: Literal["penalized"] = "penalized"
    objective: SerializeAsAny[Objective]
    coefficient: float = Field(gt=0, allow_inf_nan=False)
    estimator: ReferenceEstimator = ReferenceEstimator.K3

    @property
    def corrects_mismatch(self) -> bool:  # type: ignore[override]
        """Whether the objective corrects the mismatch."""
        return self.objective.corrects_mismatch

    @property
    def reads_responses(self) -> bool:  # type: ignore[override]
        """Whether the objective reads whole responses."""
        return self.objective.reads_responses

    @property
    def reads_router(self) -> bool:  # type: ignore[override]
        """Whether the objective reads router shifts."""
        return self.objective.reads_router

    @property
    def reads_candidates(self) -> int:  # type: ignore[override]
        """Number of candidates that the objective reads."""
        return self.objective.reads_candidates

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t - coefficient * divergence_t of each token."""
        values = token_values(self.objective, terms)
        return values - self.coefficient * reference_divergence(terms, self.estimator)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Masks of the objective."""
        return token_masks(self.objective, terms)


def reference_divergence(
    terms: TokenTerms, estimator: ReferenceEstimator = ReferenceEstimator.K3
) -> Float[Tensor, "B T"]:
    """Estimated divergence of each token from the reference policy; 0 outside the loss mask.

    With d = log(pi_ref / pi_theta) of the sampled token, the estimators and their gradients under
    automatic differentiation are:

        k1 = -d               grad log pi_theta
        k2 = d^2 / 2          -d grad log pi_theta
        k3 = exp(d) - 1 - d   (1 - exp(d)) grad log pi_theta

    For tokens sampled from pi_theta, the expectation of k1 and of k3 is KL(pi_theta || pi_ref). The
    expectation of their gradients is not its gradient, because sampling depends on theta as well.
    For k1 it is 0, so k1 is not offered; for k3 it is grad KL(pi_ref || pi_theta); for k2, whose
    value is biased, it is grad KL(pi_theta || pi_ref). k2 and k3 agree to first order in d. Tokens
    sampled from another policy (older weights or an engine) are not corrected for.

    |d| is bounded by `MAX_LOG_DISTANCE` and k3 by `MAX_K3`, as in verl, the trainer of the ERL
    paper: a token that is at least about 14 times less likely than under the reference has no
    gradient.

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
