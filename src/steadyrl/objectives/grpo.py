"""GRPO (arXiv:2402.03300): the clipped surrogate of PPO, without a value model."""

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.clipping import clip_limits
from steadyrl.objectives.limits import Limited
from steadyrl.objectives.terms import TokenTerms


def grpo(
    terms: TokenTerms, *, clip_low: float = 0.2, clip_high: float = 0.27
) -> Float[Tensor, "B T"]:
    """The GRPO objective of each token, to be maximised.

        J_t = min( r_t A_t,  clip(r_t, 1 - clip_low, 1 + clip_high) A_t )

    where
        A_t   advantage, a constant;
        r_t   ratio pi_theta / pi_theta_old. The gradient flows through it.

    `math.inf` switches off a clip bound.

    Source: arXiv:2402.03300, equation 3; arXiv:1707.06347, equation 7. Group-normalised
    advantages and the mean over a response's tokens are `group_mean_std` and
    `Aggregation.LENGTH_NORM`.

    Departs from the paper in two clip bounds instead of one (after arXiv:2503.14476), and in
    leaving the KL penalty to a term of its own.
    """
    ratio = terms.log_ratio.exp()
    advantages = terms.advantages.detach().masked_fill(~terms.loss_mask, 0.0)
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratio * advantages, clipped_ratio * advantages)


def grpo_limits(terms: TokenTerms, *, clip_low: float = 0.2, clip_high: float = 0.27) -> Limited:
    """Tokens of which `grpo` takes the clipped surrogate, so that they pass no gradient."""
    return clip_limits(terms.log_ratio, terms.advantages, clip_low, clip_high)
