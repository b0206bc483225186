"""The input of an objective: each token's log-probability under each of the three policies."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.objectives.quotient import log_quotient


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTerms:
    """`B` rows of `T` tokens. Only `logprobs` carries gradient; the rest are constants.

    Entries outside the loss mask are never read: they may be anything, inf and NaN included.
    The log quotients are 0 there, and elsewhere as `log_quotient` says.

    Example:
        TokenTerms(logprobs=logprobs, old_logprobs=logprobs.detach(),
                   rollout_logprobs=torch.tensor([[0.0, -1.2]]),
                   advantages=torch.tensor([[0.0, 0.5]]), loss_mask=torch.tensor([[False, True]]))
    """

    logprobs: Float[Tensor, "B T"]
    """log pi_theta: the policy being trained."""

    old_logprobs: Float[Tensor, "B T"]
    """log pi_theta_old: the trainer before the update."""

    rollout_logprobs: Float[Tensor, "B T"]
    """log mu_theta_old: the rollout engine."""

    advantages: Float[Tensor, "B T"]

    loss_mask: Bool[Tensor, "B T"]
    """Tokens that carry gradient."""

    response_ids: Int[Tensor, " B"] | None = None
    """Rows of equal ids are one response, and all of its rows are here. None: each row is one."""

    teacher_logprobs: Float[Tensor, "B T"] | None = None
    """log pi_theta of the same tokens under a teacher's prompt, if there is one."""

    ref_logprobs: Float[Tensor, "B T"] | None = None
    """log pi_ref: the reference policy, if an objective reads it."""

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
        """Log of the weight pi_theta / mu_theta_old: ratio times mismatch, up to the bound."""
        return log_quotient(
            self._masked(self.logprobs), self._masked(self.rollout_logprobs).detach()
        )

    def weighted_logprobs(self, coefficients: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """sg[coefficients] * log pi_theta: its gradient is the coefficient times grad log pi_theta.

        Exactly 0, with a gradient of exactly 0, outside the loss mask and wherever a coefficient
        is 0, even if log pi_theta is -inf there. Where it is -inf under another coefficient the
        value is infinite: the objective asks for a token that the policy cannot write.
        """
        carries_gradient = self.loss_mask & (coefficients != 0)
        kept_coefficients = torch.where(carries_gradient, coefficients.detach(), 0.0)
        return kept_coefficients * self.logprobs.masked_fill(~carries_gradient, 0.0)

    def _masked(self, values: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return values.masked_fill(~self.loss_mask, 0.0)
