"""Dual-clip PPO (arXiv:1912.09729): the clipped surrogate with a bound for negative advantages."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks, clip_by_advantage
from steadyrl.objectives.grpo import clipped_surrogate
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class DualClip(Objective):
    """Dual-clip PPO, arXiv:1912.09729.

        J_t = min( r_t A_t,  clip(r_t, 1 - clip_low, 1 + clip_high) A_t )   if A_t >= 0
              max( the same,  ratio_cap A_t )                               if A_t < 0

    where
        A_t   advantage, a constant;
        r_t   ratio pi_theta / pi_theta_old. The gradient flows through it.

    The minimum leaves r_t A_t unbounded if A_t < 0 and r_t is large, that is for a token that
    became much likelier despite its negative advantage. `ratio_cap` bounds the ratio there, and
    removes its gradient.

    Source: arXiv:1912.09729, its section on dual-clip PPO, with its ratio_cap of 3.

    Departs from the paper in two clip bounds instead of one (after arXiv:2503.14476).
    """

    proportional_to_advantage = True

    name: Literal["dual_clip"] = "dual_clip"

    clip_low: float = Field(0.2, gt=0)
    """Tokens with A < 0 stop at a ratio below 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(0.2, gt=0)
    """Tokens with A > 0 stop at a ratio above 1 + clip_high. `.inf` disables it."""

    ratio_cap: float = Field(3.0, gt=1)
    """Tokens with A < 0 stop at a ratio above this cap. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        surrogate = clipped_surrogate(terms, terms.log_ratio, self.clip_low, self.clip_high)
        advantages = terms.advantages.detach().masked_fill(~terms.loss_mask, 0.0)
        return torch.where(self._capped(terms), advantages * self.ratio_cap, surrogate)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens clipped as in `GRPO`, and tokens with A < 0 and a ratio above `ratio_cap`."""
        clipped = clip_by_advantage(
            terms.log_ratio, terms.advantages, self.clip_low, self.clip_high
        )
        return replace(clipped, truncated=self._capped(terms))

    def _capped(self, terms: TokenTerms) -> Bool[Tensor, "B T"]:
        return (terms.advantages < 0) & (terms.log_ratio.exp() > self.ratio_cap)
