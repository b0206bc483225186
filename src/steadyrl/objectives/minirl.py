"""MiniRL (arXiv:2512.01374): REINFORCE, corrected for mismatch and bounded in staleness."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks, above_clip, below_clip, clip_by_advantage
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class MiniRL(Objective):
    """MiniRL, arXiv:2512.01374, equation 7.

        J_t = M_t sg[min(w_t, weight_cap)] A_t log pi_theta(y_t | x, y_<t)

        M_t = 0   if A_t > 0 and r_t > 1 + clip_high
              0   if A_t < 0 and r_t < 1 - clip_low
              1   otherwise

    where
        A_t   advantage, a constant;
        w_t   weight pi_theta / mu_theta_old: trainer now over rollout engine;
        r_t   ratio pi_theta / pi_theta_old: trainer now over trainer before the update;
        sg    stop-gradient.

    The mask only depends on how far the update has moved (r_t). The weight also depends on how much
    trainer and engine disagree. The two are decoupled.

    Source: arXiv:2512.01374, equation 7 and, for the cap on the weight, its section on training
    settings. The group-mean advantage and the sum over tokens are `group_mean` and
    `Aggregation.TOKEN_SUM`.

    Departs from the paper in that the ablation is also defined off policy; the paper has
    pi_theta = pi_theta_old and a weight of 1.
    """

    proportional_to_advantage = True

    name: Literal["minirl"] = "minirl"

    clip_low: float = Field(0.2, gt=0)
    """Tokens with A < 0 stop at a ratio below 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(0.27, gt=0)
    """Tokens with A > 0 stop at a ratio above 1 + clip_high. `.inf` disables it."""

    weight_cap: float = Field(5.0, gt=0)
    """Upper bound of the weight pi_theta / mu_old. `.inf` disables it."""

    correct_mismatch: bool = True
    """False: the ablation without train-inference importance sampling, with r_t instead of w_t."""

    @property
    def corrects_mismatch(self) -> bool:  # type: ignore[override]
        """Whether tokens are weighted by pi_theta / mu_theta_old: not in the ablation."""
        return self.correct_mismatch

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        weight = self._weight(terms).clamp(max=self.weight_cap)
        clipped = above_clip(terms.log_ratio, terms.advantages, self.clip_high) | below_clip(
            terms.log_ratio, terms.advantages, self.clip_low
        )
        return terms.weighted_logprobs(torch.where(clipped, 0.0, weight * terms.advantages))

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with M_t = 0, and tokens with a weight above the cap."""
        clipped = clip_by_advantage(
            terms.log_ratio, terms.advantages, self.clip_low, self.clip_high
        )
        return replace(clipped, truncated=self._weight(terms) > self.weight_cap)

    def _weight(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        log_weight = terms.log_weight if self.correct_mismatch else terms.log_ratio
        return log_weight.exp()
