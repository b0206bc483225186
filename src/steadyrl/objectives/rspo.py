"""RSPO's router-shift weights (arXiv:2510.23027) on the clipped surrogate of GRPO."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks, clip_by_advantage
from steadyrl.objectives.grpo import clipped_surrogate
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class RSPO(Objective):
    """Router-shift weights, arXiv:2510.23027, equations 5 to 9, on GRPO.

        J_t = min( v_t A_t,  clip(v_t, 1 - clip_low, 1 + clip_high) A_t )

        v_t = sg[max(g_t, floor)] r_t

        g_t = exp( -1/L sum_l 1/K sum_k |log q_l(e_lk) - log q_l,old(e_lk)| )

    where
        A_t       advantage, a constant;
        r_t       ratio pi_theta / pi_theta_old. The gradient flows through it;
        g_t       router-shift ratio in the pass that predicts the token, from 0 to 1;
        e_lk      the K experts that layer l chose under the old weights;
        q_l       probability of an expert by the router of layer l now, q_l,old under the old
                  weights;
        sg        stop-gradient.

    Tokens whose routers have moved weigh less. Routers choose live: nothing is replayed.

    Source: equations 5 to 9 (g_t, its floor, and the rescaled ratio) by an implementation that
    cites them by number; that the ratio is rescaled before it is clipped, and that the weights are
    a plug-in for GRPO, GSPO and GMPO, by the abstract of the paper's second version. The default of
    the floor is that implementation's.

    Departs from the paper's main results, which use the weights on GMPO: the text of that
    objective was not at hand.
    """

    proportional_to_advantage = True
    reads_router = True

    name: Literal["rspo"] = "rspo"

    clip_low: float = Field(0.2, gt=0)
    """Tokens with A < 0 stop at a rescaled ratio below 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(0.27, gt=0)
    """Tokens with A > 0 stop at a rescaled ratio above 1 + clip_high. `.inf` disables it."""

    floor: float = Field(0.8, gt=0, le=1)
    """Smallest router-shift weight. 1 makes it GRPO."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        return clipped_surrogate(terms, self._log_ratio(terms), self.clip_low, self.clip_high)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that take the clipped branch, without gradient."""
        log_ratio = self._log_ratio(terms)
        return clip_by_advantage(log_ratio, terms.advantages, self.clip_low, self.clip_high)

    def _log_ratio(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """Log v_t of each token; 0 outside the loss mask."""
        assert terms.router_shift is not None, "the learner provides router shifts"
        log_weight = (-terms.router_shift.detach()).clamp(min=math.log(self.floor))
        return terms.log_ratio + torch.where(terms.loss_mask, log_weight, 0.0)
