"""Corrections of the mismatch pi_theta_old / mu_theta_old, for any objective's tokens.

An objective that reads the ratio pi_theta / pi_theta_old alone is written for tokens sampled from
pi_theta_old. They were sampled from mu_theta_old, so their importance weight is the mismatch. It is
kept small in one of two ways, at one of three levels. `minirl` and `dppo` correct for it by
themselves.
"""

from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.limits import Limited
from steadyrl.objectives.sequences import log_geometric_mean, log_product
from steadyrl.objectives.terms import TokenTerms


class MismatchLevel(StrEnum):
    """Of what the mismatch m is taken: m_t = pi_theta_old / mu_theta_old of token t."""

    TOKEN = "token"
    """m_t, of each token."""

    SEQUENCE_PRODUCT = "sequence_product"
    """prod_t m_t: the quotient of the response's probabilities. Unbiased, of high variance."""

    SEQUENCE_GEOMETRIC_MEAN = "sequence_geometric_mean"
    """(prod_t m_t)^(1 / |y|): comparable between lengths, and not an importance weight."""


def truncated_mismatch(
    terms: TokenTerms, *, level: MismatchLevel = MismatchLevel.TOKEN, cap: float = 2.0
) -> Float[Tensor, "B T"]:
    """The weight min(m, cap) of each token. Carries no gradient. 0 outside the loss mask.

    Source: truncated importance sampling (TIS), E. Ionides, "Truncated importance sampling", 2008;
    for this mismatch, F. Yao et al., "Your efficient RL framework secretly brings you off-policy
    RL training", 2025.
    """
    return mismatch_at(terms, level).clamp(max=cap)


def truncation_limits(
    terms: TokenTerms, *, level: MismatchLevel = MismatchLevel.TOKEN, cap: float = 2.0
) -> Limited:
    """Tokens whose weight `truncated_mismatch` truncates."""
    return Limited(truncated=mismatch_at(terms, level) > cap)


def masked_mismatch(
    terms: TokenTerms,
    *,
    level: MismatchLevel = MismatchLevel.TOKEN,
    low: float = 0.5,
    high: float = 5.0,
) -> Float[Tensor, "B T"]:
    """The weight m of each token if low <= m <= high, and 0 otherwise. Carries no gradient.

    `low=0` and `high=math.inf` switch off a bound. A masked token gives no gradient but keeps its
    place in the denominators of an `Aggregation`. 0 outside the loss mask.

    Source: at the level of tokens, IcePop (Ling Team, "Small leak can sink a great ship", 2025),
    whose bounds are the defaults; at that of sequences, masked importance sampling (J. Liu et al.,
    "When speed kills stability", 2025).
    """
    mismatch = mismatch_at(terms, level)
    outside = (mismatch < low) | (mismatch > high)
    return mismatch.masked_fill(outside, 0.0)


def masking_limits(
    terms: TokenTerms,
    *,
    level: MismatchLevel = MismatchLevel.TOKEN,
    low: float = 0.5,
    high: float = 5.0,
) -> Limited:
    """Tokens that `masked_mismatch` masks."""
    mismatch = mismatch_at(terms, level)
    return Limited(masked=terms.loss_mask & ((mismatch < low) | (mismatch > high)))


def mismatch_at(terms: TokenTerms, level: MismatchLevel) -> Float[Tensor, "B T"]:
    """The mismatch m of each token, the same at all tokens of a response where it is a sequence's.

    0 outside the loss mask.
    """
    log_mismatch = terms.log_mismatch
    match level:
        case MismatchLevel.SEQUENCE_PRODUCT:
            log_mismatch = log_product(log_mismatch, terms.loss_mask, terms.response_ids)
        case MismatchLevel.SEQUENCE_GEOMETRIC_MEAN:
            log_mismatch = log_geometric_mean(log_mismatch, terms.loss_mask, terms.response_ids)
    return torch.where(terms.loss_mask, log_mismatch.exp(), 0.0)


def corrected(
    objective: Float[Tensor, "B T"], weights: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """The objective of each token times its weight: exactly 0 where the weight is 0.

    Example:
        corrected(grpo(terms), truncated_mismatch(terms, cap=2.0))
    """
    return objective.masked_fill(weights == 0, 0.0) * weights
