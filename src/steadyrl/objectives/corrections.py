"""Corrections of the mismatch pi_theta_old / mu_theta_old, for any objective's tokens.

An objective that reads only the ratio pi_theta / pi_theta_old is written for tokens sampled from
pi_theta_old. They were sampled from mu_theta_old, so their importance weight is the mismatch. It is
bounded in one of two ways, at one of three levels. `MiniRL` and `DPPO` correct for it themselves.
"""

from abc import abstractmethod
from enum import StrEnum
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.variants import Variant, Variants
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.objective_calls import token_masks, token_values
from steadyrl.objectives.sequences import log_geometric_mean, log_product
from steadyrl.objectives.terms import TokenTerms


class MismatchLevel(StrEnum):
    """What the mismatch m is taken over, from m_t = pi_theta_old / mu_theta_old of token t."""

    TOKEN = "token"
    """m_t, of each token."""

    SEQUENCE_PRODUCT = "sequence_product"
    """prod_t m_t: the quotient of the response's probabilities. Unbiased, of high variance."""

    SEQUENCE_GEOMETRIC_MEAN = "sequence_geometric_mean"
    """(prod_t m_t)^(1 / |y|): comparable between lengths, and not an importance weight."""


class Correction(Variant):
    """What is done about the mismatch of an objective that does not read it."""

    @abstractmethod
    def apply_to(self, objective: Objective) -> Objective:
        """The objective with this correction.

        Raises:
            UserError: the objective corrects the mismatch itself.
        """
        ...


class NoCorrection(Correction):
    """The objective as it is."""

    name: Literal["none"] = "none"

    def apply_to(self, objective: Objective) -> Objective:
        """The objective itself."""
        return objective


class MismatchWeights(Correction):
    """Bounded weights of the mismatch, one for each token."""

    level: MismatchLevel = MismatchLevel.TOKEN
    """What the mismatch is taken over: each token, or its response."""

    def apply_to(self, objective: Objective) -> Objective:
        """The objective, each token multiplied by its weight."""
        if objective.corrects_mismatch:
            raise UserError(
                f"correction is {self.name!r}, but the objective {objective.name!r} weighs tokens "
                "by pi_theta / mu_old already, so the discrepancy would count twice. Set "
                "correction 'none', or choose an objective that reads pi_theta / pi_old alone, "
                "such as 'grpo'."
            )
        return Corrected(objective=objective, correction=self)

    @abstractmethod
    def weights(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """The weight of each token, without gradient. 0 outside the loss mask."""
        ...

    @abstractmethod
    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens whose weight is bounded."""
        ...


class Truncation(MismatchWeights):
    """Weights min(m, cap), of the mismatch m = pi_old / mu_old.

    Source: truncated importance sampling (TIS), E. Ionides, "Truncated importance sampling", 2008;
    for this mismatch, F. Yao et al., "Your efficient RL framework secretly brings you off-policy
    RL training", 2025.
    """

    name: Literal["truncation"] = "truncation"

    cap: float = Field(2.0, gt=0)
    """Upper bound of the weights. `.inf` disables it."""

    def weights(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """min(m, cap) of each token, without gradient. 0 outside the loss mask."""
        return mismatch_at(terms, self.level).clamp(max=self.cap)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with m > cap."""
        return ClipMasks(truncated=mismatch_at(terms, self.level) > self.cap)


class Masking(MismatchWeights):
    """Weights m if low <= m <= high and 0 otherwise, of the mismatch m = pi_old / mu_old.

    A masked token gives no gradient but keeps its place in the denominators of an `Aggregation`.

    Source: at the level of tokens, IcePop (Ling Team, "Small leak can sink a great ship", 2025),
    whose bounds are the defaults; at that of sequences, masked importance sampling (J. Liu et al.,
    "When speed kills stability", 2025).
    """

    name: Literal["masking"] = "masking"

    low: float = Field(0.5, ge=0)
    """A mismatch below it gives no gradient. 0 disables it."""

    high: float = Field(5.0, gt=0)
    """A mismatch above it gives no gradient. `.inf` disables it."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> "Masking":
        if not self.low <= 1 <= self.high or self.low == self.high:
            raise ValueError(
                f"low is {self.low} and high is {self.high}, but a mismatch of 1 is agreement, "
                "which would be masked, or all but it. Set low to 1 or below and high to 1 or "
                "above, and not both to 1."
            )
        return self

    def weights(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """M of each token within the bounds, 0 of the others, without gradient."""
        mismatch = mismatch_at(terms, self.level)
        outside = (mismatch < self.low) | (mismatch > self.high)
        return mismatch.masked_fill(outside, 0.0)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with a mismatch outside the bounds."""
        mismatch = mismatch_at(terms, self.level)
        outside = (mismatch < self.low) | (mismatch > self.high)
        return ClipMasks(masked=terms.loss_mask & outside)


AnyCorrection = Annotated[
    Correction, Variants(Correction, "steadyrl.corrections", NoCorrection, Truncation, Masking)
]


class Corrected(Objective):
    """An objective whose tokens are multiplied by the weights of a correction.

    Exactly 0 where the weight is 0, even if the objective is infinite there.

    Example:
        Truncation(cap=2.0).apply_to(GRPO())(terms)
    """

    corrects_mismatch = True

    name: Literal["corrected"] = "corrected"
    objective: SerializeAsAny[Objective]
    correction: SerializeAsAny[MismatchWeights]

    @property
    def proportional_to_advantage(self) -> bool:  # type: ignore[override]
        """As the objective's."""
        return self.objective.proportional_to_advantage

    @property
    def reads_responses(self) -> bool:  # type: ignore[override]
        """Whether the objective reads whole responses, or the correction."""
        of_responses = self.correction.level is not MismatchLevel.TOKEN
        return of_responses or self.objective.reads_responses

    @property
    def reads_reference(self) -> bool:  # type: ignore[override]
        """As the objective's."""
        return self.objective.reads_reference

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """The objective of each token times its weight."""
        values = token_values(self.objective, terms)
        weights = self.correction.weights(terms)
        return values.masked_fill(weights == 0, 0.0) * weights

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that meet a bound of the objective or of the correction."""
        return token_masks(self.objective, terms) | self.correction.masks(terms)


def mismatch_at(terms: TokenTerms, level: MismatchLevel) -> Float[Tensor, "B T"]:
    """The mismatch m of each token, the same at all tokens of a response at sequence levels.

    0 outside the loss mask.
    """
    log_mismatch = terms.log_mismatch
    match level:
        case MismatchLevel.SEQUENCE_PRODUCT:
            log_mismatch = log_product(log_mismatch, terms.loss_mask, terms.response_ids)
        case MismatchLevel.SEQUENCE_GEOMETRIC_MEAN:
            log_mismatch = log_geometric_mean(log_mismatch, terms.loss_mask, terms.response_ids)
    return torch.where(terms.loss_mask, log_mismatch.exp(), 0.0)
