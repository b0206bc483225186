"""MiniRL (arXiv:2512.01374): REINFORCE, corrected for mismatch and bounded in staleness."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.clipping import above_clip, below_clip, clip_limits
from steadyrl.objectives.limits import Limited
from steadyrl.objectives.terms import TokenTerms


def minirl(
    terms: TokenTerms,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.27,
    weight_cap: float = 5.0,
    correct_mismatch: bool = True,
) -> Float[Tensor, "B T"]:
    """The MiniRL objective of each token, to be maximised.

        J_t = M_t sg[min(w_t, weight_cap)] A_t log pi_theta(y_t | x, y_<t)

        M_t = 0   if A_t > 0 and r_t > 1 + clip_high
              0   if A_t < 0 and r_t < 1 - clip_low
              1   otherwise

    where
        A_t   advantage, a constant;
        w_t   weight pi_theta / mu_theta_old: trainer now over rollout engine;
        r_t   ratio pi_theta / pi_theta_old: trainer now over trainer before the update;
        sg    stop-gradient.

    The mask asks only how far the update has moved (r_t), the weight also how much trainer and
    engine disagree: the two are decoupled. `math.inf` switches off a clip bound or the cap.
    `correct_mismatch=False` is the ablation "w/o train-infer-IS": r_t in place of w_t.

    Source: arXiv:2512.01374, equation 7 and, for the cap on the weight, its section on training
    settings. The group-mean advantage and the sum over tokens are `group_mean` and
    `Aggregation.TOKEN_SUM`.

    Departs from the paper in that the ablation is defined off policy too, where the paper has
    pi_theta = pi_theta_old and a weight of 1.
    """
    weight = _weight(terms, correct_mismatch).clamp(max=weight_cap)
    clipped = above_clip(terms.log_ratio, terms.advantages, clip_high) | below_clip(
        terms.log_ratio, terms.advantages, clip_low
    )
    return terms.weighted_logprobs(torch.where(clipped, 0.0, weight * terms.advantages))


def minirl_limits(
    terms: TokenTerms,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.27,
    weight_cap: float = 5.0,
    correct_mismatch: bool = True,
) -> Limited:
    """Tokens with M_t = 0, and those whose weight `minirl` caps."""
    clipped = clip_limits(terms.log_ratio, terms.advantages, clip_low, clip_high)
    return replace(clipped, truncated=_weight(terms, correct_mismatch) > weight_cap)


def _weight(terms: TokenTerms, correct_mismatch: bool) -> Float[Tensor, "B T"]:
    log_weight = terms.log_weight if correct_mismatch else terms.log_ratio
    return log_weight.exp()
