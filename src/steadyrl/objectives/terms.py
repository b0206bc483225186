"""Input of objectives: log-probabilities of each token under the three policies."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.objectives.quotient import log_quotient


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTerms:
    """Terms of the `K` most probable tokens of the engine in the place of each of `N` loss tokens.

    Loss tokens are in the order of the loss mask, row after row. Only `logprobs` carries gradient.
    """

    logprobs: Float[Tensor, "N K"]
    """log pi_theta"""

    old_logprobs: Float[Tensor, "N K"]
    """log pi_theta_old"""

    rollout_logprobs: Float[Tensor, "N K"]
    """log mu_theta_old"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTerms:
    """Terms of `B` rows of `T` tokens. Only `logprobs` carries gradient.

    Entries outside the loss mask are never read and may be inf or NaN. Log quotients are 0 there,
    and are computed by `log_quotient` elsewhere.

    Example:
        TokenTerms(logprobs=logprobs, old_logprobs=logprobs.detach(),
                   rollout_logprobs=torch.tensor([[0.0, -1.2]]),
                   advantages=torch.tensor([[0.0, 0.5]]), loss_mask=torch.tensor([[False, True]]))
    """

    logprobs: Float[Tensor, "B T"]
    """log pi_theta: current policy of the trainer."""

    old_logprobs: Float[Tensor, "B T"]
    """log pi_theta_old: policy of the trainer before the update."""

    rollout_logprobs: Float[Tensor, "B T"]
    """log mu_theta_old: policy of the rollout engine."""

    advantages: Float[Tensor, "B T"]

    loss_mask: Bool[Tensor, "B T"]
    """Tokens that carry gradient."""

    response_ids: Int[Tensor, " B"] | None = None
    """Rows with equal ids are one response, whose rows are all present. None: each row is a
    response."""

    teacher_logprobs: Float[Tensor, "B T"] | None = None
    """log pi_theta of the same tokens under a teacher's prompt; None: no teacher."""

    ref_logprobs: Float[Tensor, "B T"] | None = None
    """log pi_ref: reference policy, if an objective reads it."""

    router_shift: Float[Tensor, "B T"] | None = None
    """Mean absolute change, since before the update, of the routers' log-probabilities of the
    experts that they chose then, in the pass that predicts the token; if an objective reads it."""

    candidates: CandidateTerms | None = None
    """Terms of the tokens that the engine would most probably have sampled, if an objective reads
    them."""

    @property
    def log_ratio(self) -> Float[Tensor, "B T"]:
        """Log of the ratio pi_theta / pi_theta_old: policy staleness."""
        return log_quotient(self._masked(self.logprobs), self._masked(self.old_logprobs).detach())

    @property
    def log_mismatch(self) -> Float[Tensor, "B T"]:
        """Log of the mismatch pi_theta_old / mu_theta_old: training-inference discrepancy."""
        return log_quotient(
            self._masked(self.old_logprobs).detach(), self._masked(self.rollout_logprobs).detach()
        )

    @property
    def log_weight(self) -> Float[Tensor, "B T"]:
        """Log of the weight pi_theta / mu_theta_old: ratio times mismatch below the bound."""
        return log_quotient(
            self._masked(self.logprobs), self._masked(self.rollout_logprobs).detach()
        )

    def weighted_logprobs(self, coefficients: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """sg[coefficients] * log pi_theta, with gradient coefficients * grad log pi_theta.

        Value and gradient are exactly 0 outside the loss mask and at zero coefficients, even if log
        pi_theta is -inf there. With a non-zero coefficient, a log pi_theta of -inf gives an
        infinite value: the objective requires a token that the policy cannot sample.
        """
        carries_gradient = self.loss_mask & (coefficients != 0)
        kept_coefficients = torch.where(carries_gradient, coefficients.detach(), 0.0)
        return kept_coefficients * self.logprobs.masked_fill(~carries_gradient, 0.0)

    def _masked(self, values: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return values.masked_fill(~self.loss_mask, 0.0)
