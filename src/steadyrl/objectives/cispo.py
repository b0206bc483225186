"""CISPO (arXiv:2506.13585): clip the weight of a token, keep its gradient."""

from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.limits import Limited
from steadyrl.objectives.terms import TokenTerms


def cispo(terms: TokenTerms, *, clip_low: float, clip_high: float) -> Float[Tensor, "B T"]:
    """The CISPO objective of each token, to be maximised.

        J_t = sg[clip(r_t, 1 - clip_low, 1 + clip_high)] A_t log pi_theta(y_t | x, y_<t)

    where
        A_t   advantage, a constant;
        r_t   ratio pi_theta / pi_theta_old;
        sg    stop-gradient.

    `math.inf` switches off a clip bound.

    Source: arXiv:2506.13585, equations 4 and 5. Group-normalised advantages and the mean over a
    group's tokens are `group_mean_std` and `Aggregation.GROUP_TOKEN_MEAN`.
    """
    clipped_ratio = terms.log_ratio.exp().clamp(1 - clip_low, 1 + clip_high)
    return terms.weighted_logprobs(clipped_ratio * terms.advantages)


def cispo_limits(terms: TokenTerms, *, clip_low: float, clip_high: float) -> Limited:
    """Tokens whose weight `cispo` clips, whatever the sign of their advantage. None is stopped."""
    ratio = terms.log_ratio.exp()
    return Limited(clipped_low=ratio < 1 - clip_low, clipped_high=ratio > 1 + clip_high)
