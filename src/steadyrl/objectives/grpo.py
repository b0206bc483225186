"""GRPO (arXiv:2402.03300): the clipped surrogate of PPO, without a value model."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks, clip_by_advantage
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class GRPO(Objective):
    """GRPO, arXiv:2402.03300, with the bounds of arXiv:2512.01374, appendix A.

        J_t = min( r_t A_t,  clip(r_t, 1 - clip_low, 1 + clip_high) A_t )

    where
        A_t   advantage, a constant;
        r_t   ratio pi_theta / pi_theta_old. The gradient flows through it.

    Source: arXiv:2402.03300, equation 3; arXiv:1707.06347, equation 7. Group-normalized
    advantages and the mean over a response's tokens are `group_mean_std` and
    `Aggregation.LENGTH_NORM`.

    Departs from the paper in two clip bounds instead of one (after arXiv:2503.14476), and in
    leaving the KL penalty to `Penalized`.
    """

    proportional_to_advantage = True

    name: Literal["grpo"] = "grpo"

    clip_low: float = Field(0.2, gt=0)
    """Tokens with A < 0 stop at a ratio below 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(0.27, gt=0)
    """Tokens with A > 0 stop at a ratio above 1 + clip_high. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        return clipped_surrogate(terms, terms.log_ratio, self.clip_low, self.clip_high)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that take the clipped branch, without gradient."""
        return clip_by_advantage(terms.log_ratio, terms.advantages, self.clip_low, self.clip_high)


def clipped_surrogate(
    terms: TokenTerms, log_ratio: Float[Tensor, "B T"], clip_low: float, clip_high: float
) -> Float[Tensor, "B T"]:
    """min( r_t A_t,  clip(r_t, 1 - clip_low, 1 + clip_high) A_t ), for any log ratio.

    0 outside the loss mask, where `log_ratio` must be 0.
    """
    ratio = log_ratio.exp()
    advantages = terms.advantages.detach().masked_fill(~terms.loss_mask, 0.0)
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratio * advantages, clipped_ratio * advantages)
