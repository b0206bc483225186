"""Dual-clip PPO (arXiv:1912.09729): the clipped surrogate, bounded where it was not."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steadyrl.objectives.grpo import grpo, grpo_limits
from steadyrl.objectives.limits import Limited
from steadyrl.objectives.terms import TokenTerms


def dual_clip(
    terms: TokenTerms, *, clip_low: float = 0.2, clip_high: float = 0.2, ratio_cap: float = 3.0
) -> Float[Tensor, "B T"]:
    """The dual-clip PPO objective of each token, to be maximised.

        J_t = min( r_t A_t,  clip(r_t, 1 - clip_low, 1 + clip_high) A_t )   if A_t >= 0
              max( the same,  ratio_cap A_t )                               if A_t < 0

    where
        A_t   advantage, a constant;
        r_t   ratio pi_theta / pi_theta_old. The gradient flows through it.

    The minimum leaves r_t A_t unbounded where A_t < 0 and r_t is large: a token that became much
    likelier although it should not. There the ratio stops at `ratio_cap`, and its gradient with
    it. `math.inf` switches off a bound.

    Source: arXiv:1912.09729, its section on dual-clip PPO, with its ratio_cap of 3.

    Departs from the paper in two clip bounds instead of one (after arXiv:2503.14476).
    """
    surrogate = grpo(terms, clip_low=clip_low, clip_high=clip_high)
    advantages = terms.advantages.detach().masked_fill(~terms.loss_mask, 0.0)
    return torch.where(_capped(terms, ratio_cap), advantages * ratio_cap, surrogate)


def dual_clip_limits(
    terms: TokenTerms, *, clip_low: float = 0.2, clip_high: float = 0.2, ratio_cap: float = 3.0
) -> Limited:
    """Tokens that `dual_clip` stops as `grpo` does, and those that it stops at `ratio_cap`."""
    clipped = grpo_limits(terms, clip_low=clip_low, clip_high=clip_high)
    return replace(clipped, truncated=_capped(terms, ratio_cap))


def _capped(terms: TokenTerms, ratio_cap: float) -> Bool[Tensor, "B T"]:
    return (terms.advantages < 0) & (terms.log_ratio.exp() > ratio_cap)
