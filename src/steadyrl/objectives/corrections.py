"""Corrections for the mismatch pi_theta_old / mu_theta_old, applicable to any objective.

An objective that reads only the ratio pi_theta / pi_theta_old assumes tokens sampled from
pi_theta_old. They were sampled from mu_theta_old, so the mismatch is their importance weight. A
correction bounds this weight by truncation or masking, per token or per sequence. `MiniRL` and
`DPPO` already contain a correction. `ScoreCentering` is one that needs no weights.
"""

from abc import abstractmethod
from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.variants import Variant
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.objective_calls import token_masks, token_values
from steadyrl.objectives.sequences import log_geometric_mean, log_product
from steadyrl.objectives.terms import TokenTerms


class MismatchLevel(StrEnum):
    """Level at which the mismatch m is computed from m_t = pi_theta_old / mu_theta_old."""

    TOKEN = "token"
    """m_t of each token."""

    SEQUENCE_PRODUCT = "sequence_product"
    """prod_t m_t: the quotient of the response's probabilities. Unbiased, with high variance."""

    SEQUENCE_GEOMETRIC_MEAN = "sequence_geometric_mean"
    """(prod_t m_t)^(1 / |y|): comparable across lengths, but not an importance weight."""


class Correction(Variant):
    """Correction of an objective for the training-inference mismatch."""

    @abstractmethod
    def apply_to(self, objective: Objective) -> Objective:
        """Returns the objective with this correction.

        Raises:
            UserError: the objective already corrects the mismatch.
        """
        ...


class NoCorrection(Correction):
    """No correction."""

    name: Literal["none"] = "none"

    def apply_to(self, objective: Objective) -> Objective:
        """Returns the objective unchanged."""
        return objective


class MismatchWeights(Correction):
    """A correction that multiplies each token's objective by a bounded mismatch weight."""

    level: MismatchLevel = MismatchLevel.TOKEN
    """Level of the mismatch: per token, or per response."""

    def apply_to(self, objective: Objective) -> Objective:
        """Returns the objective with each token multiplied by its weight."""
        if objective.corrects_mismatch:
            raise UserError(
                f"correction is {self.name!r}, but the objective {objective.name!r} already weighs "
                "tokens by pi_theta / mu_old, so the mismatch would be corrected twice. Set "
                "correction 'none', or choose an objective that reads pi_theta / pi_old only, "
                "such as 'grpo'."
            )
        return Corrected(objective=objective, correction=self)

    @abstractmethod
    def weights(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """Weight of each token, without gradient; 0 outside the loss mask."""
        ...

    @abstractmethod
    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens whose weight is truncated or masked out."""
        ...


class Truncation(MismatchWeights):
    """Truncated weights min(m, cap) of the mismatch m = pi_old / mu_old.

    Source: truncated importance sampling (TIS), E. Ionides, "Truncated importance sampling", 2008;
    for this mismatch, F. Yao et al., "Your efficient RL framework secretly brings you off-policy
    RL training", 2025.
    """

    name: Literal["truncation"] = "truncation"

    cap: float = Field(2.0, gt=0)
    """Upper bound of the weights. `.inf` disables it."""

    def weights(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """min(m, cap) of each token, without gradient; 0 outside the loss mask."""
        return mismatch_at(terms, self.level).clamp(max=self.cap)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with m > cap."""
        return ClipMasks(truncated=mismatch_at(terms, self.level) > self.cap)


class Masking(MismatchWeights):
    """Masked weights of the mismatch m = pi_old / mu_old: m if low <= m <= high, otherwise 0.

    A masked token contributes no gradient, but still counts in the denominators of an
    `Aggregation`.

    Source: at token level, IcePop (Ling Team, "Small leak can sink a great ship", 2025), whose
    bounds are the defaults; at sequence level, masked importance sampling (J. Liu et al., "When
    speed kills stability", 2025).
    """

    name: Literal["masking"] = "masking"

    low: float = Field(0.5, ge=0)
    """Lower bound: tokens with a smaller mismatch are masked out. 0 disables it."""

    high: float = Field(5.0, gt=0)
    """Upper bound: tokens with a larger mismatch are masked out. `.inf` disables it."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> "Masking":
        if not self.low <= 1 <= self.high or self.low == self.high:
            raise ValueError(
                f"low is {self.low} and high is {self.high}, but policies that agree have a "
                "mismatch of 1, which must lie in a range of positive width. Set low to at most 1 "
                "and high to at least 1, and not both to 1."
            )
        return self

    def weights(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """The mismatch of each token within the bounds, otherwise 0; without gradient."""
        mismatch = mismatch_at(terms, self.level)
        outside = (mismatch < self.low) | (mismatch > self.high)
        return mismatch.masked_fill(outside, 0.0)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with a mismatch outside the bounds."""
        mismatch = mismatch_at(terms, self.level)
        outside = (mismatch < self.low) | (mismatch > self.high)
        return ClipMasks(masked=terms.loss_mask & outside)


class Corrected(Objective):
    """An objective multiplied by the weights of a correction.

    Exactly 0 at tokens with weight 0, even if the objective is infinite there.

    Example:
        Truncation(cap=2.0).apply_to(GRPO())(terms)
    """

    corrects_mismatch = True

    name: Literal["corrected"] = "corrected"
    objective: SerializeAsAny[Objective]
    correction: SerializeAsAny[MismatchWeights]

    @property
    def proportional_to_advantage(self) -> bool:  # type: ignore[override]
        """Whether the objective is proportional to the advantage."""
        return self.objective.proportional_to_advantage

    @property
    def reads_responses(self) -> bool:  # type: ignore[override]
        """Whether the objective or the correction reads whole responses."""
        of_responses = self.correction.level is not MismatchLevel.TOKEN
        return of_responses or self.objective.reads_responses

    @property
    def reads_reference(self) -> bool:  # type: ignore[override]
        """Whether the objective reads the reference policy."""
        return self.objective.reads_reference

    @property
    def reads_router(self) -> bool:  # type: ignore[override]
        """Whether the objective reads router shifts."""
        return self.objective.reads_router

    @property
    def reads_candidates(self) -> int:  # type: ignore[override]
        """Number of candidates that the objective reads."""
        return self.objective.reads_candidates

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """The objective of each token times its weight."""
        values = token_values(self.objective, terms)
        weights = self.correction.weights(terms)
        return values.masked_fill(weights == 0, 0.0) * weights

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Union of the masks of the objective and of the correction."""
        return token_masks(self.objective, terms) | self.correction.masks(terms)


def mismatch_at(terms: TokenTerms, level: MismatchLevel) -> Float[Tensor, "B T"]:
    """The mismatch m of each token; 0 outside the loss mask.

    At the sequence levels, all tokens of a response have the same mismatch.
    """
    log_mismatch = terms.log_mismatch
    match level:
        case MismatchLevel.SEQUENCE_PRODUCT:
            log_mismatch = log_product(log_mismatch, terms.loss_mask, terms.response_ids)
        case MismatchLevel.SEQUENCE_GEOMETRIC_MEAN:
            log_mismatch = log_geometric_mean(log_mismatch, terms.loss_mask, terms.response_ids)
    return torch.where(terms.loss_mask, log_mismatch.exp(), 0.0)
