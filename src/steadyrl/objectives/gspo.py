"""GSPO (arXiv:2507.18071): the clipped surrogate with one ratio for the whole response."""

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.clipping import clip_limits
from steadyrl.objectives.limits import Limited
from steadyrl.objectives.quotient import log_quotient
from steadyrl.objectives.sequences import log_geometric_mean
from steadyrl.objectives.terms import TokenTerms


def gspo(
    terms: TokenTerms, *, clip_low: float = 3e-4, clip_high: float = 4e-4
) -> Float[Tensor, "B T"]:
    """The GSPO objective, to be maximised: that of the response, at each of its tokens.

        J_t = min( s A_t,  clip(s, 1 - clip_low, 1 + clip_high) A_t )

    where
        A_t   advantage, a constant;
        s     (prod_t r_t)^(1 / |y|), the geometric mean of the ratios r_t = pi_theta /
              pi_theta_old over the response's |y| tokens. The gradient flows through it.

    `math.inf` switches off a clip bound.

    Source: arXiv:2507.18071, equations 5 and 7; bounds from its section on experiments.
    Group-normalised advantages (equation 6) are `group_mean_std`. Under `Aggregation.LENGTH_NORM`
    the tokens of a response add up to the one term that the paper has for it.
    """
    return _clipped_surrogate(terms, _sequence_log_ratio(terms), clip_low, clip_high)


def gspo_token(
    terms: TokenTerms, *, clip_low: float = 3e-4, clip_high: float = 4e-4
) -> Float[Tensor, "B T"]:
    """The GSPO-token objective of each token, to be maximised.

        J_t = min( s_t A_t,  clip(s_t, 1 - clip_low, 1 + clip_high) A_t )

        s_t = sg[s] pi_theta(y_t | x, y_<t) / sg[pi_theta(y_t | x, y_<t)]

    where s and A_t are those of `gspo`, and sg is the stop-gradient: s_t has the value of s and
    passes its gradient to its own token alone. Value and gradient are those of `gspo` where all
    tokens of a response have one advantage.

    Source: arXiv:2507.18071, equations 13 and 14. Its aggregation is `Aggregation.LENGTH_NORM`.
    """
    logprobs = terms.logprobs.masked_fill(~terms.loss_mask, 0.0)
    log_ratio = _sequence_log_ratio(terms).detach() + log_quotient(logprobs, logprobs.detach())
    return _clipped_surrogate(terms, log_ratio, clip_low, clip_high)


def gspo_limits(terms: TokenTerms, *, clip_low: float = 3e-4, clip_high: float = 4e-4) -> Limited:
    """Tokens that `gspo` and `gspo_token` stop: all of a response, if it has one advantage."""
    log_ratio = _sequence_log_ratio(terms).masked_fill(~terms.loss_mask, 0.0)
    return clip_limits(log_ratio, terms.advantages, clip_low, clip_high)


def _sequence_log_ratio(terms: TokenTerms) -> Float[Tensor, "B T"]:
    log_ratio = log_geometric_mean(terms.log_ratio, terms.loss_mask, terms.response_ids)
    return log_ratio.expand(terms.logprobs.shape)


def _clipped_surrogate(
    terms: TokenTerms, log_ratio: Float[Tensor, "B T"], clip_low: float, clip_high: float
) -> Float[Tensor, "B T"]:
    ratio = log_ratio.masked_fill(~terms.loss_mask, 0.0).exp()
    advantages = terms.advantages.detach().masked_fill(~terms.loss_mask, 0.0)
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratio * advantages, clipped_ratio * advantages)
