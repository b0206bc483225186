"""GSPO (arXiv:2507.18071): the clipped surrogate with one ratio per response."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks, clip_by_advantage
from steadyrl.objectives.grpo import clipped_surrogate
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.sequences import log_geometric_mean
from steadyrl.objectives.terms import TokenTerms


class GSPO(Objective):
    """GSPO, arXiv:2507.18071, equation 5: the objective of the response, at each of its tokens.

        J_t = min( s A_t,  clip(s, 1 - clip_low, 1 + clip_high) A_t )

    where
        A_t   advantage, a constant;
        s     (prod_t r_t)^(1 / |y|), the geometric mean of the ratios r_t = pi_theta /
              pi_theta_old over the response's |y| tokens. The gradient flows through it.

    Source: arXiv:2507.18071, equations 5 and 7; bounds from its section on experiments.
    Group-normalized advantages (equation 6) are `group_mean_std`. With `Aggregation.LENGTH_NORM`
    the tokens of a response sum to its single term in the paper.
    """

    proportional_to_advantage = True
    reads_responses = True

    name: Literal["gspo"] = "gspo"

    clip_low: float = Field(3e-4, gt=0)
    """Responses with A < 0 stop at a sequence ratio below 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(4e-4, gt=0)
    """Responses with A > 0 stop at a sequence ratio above 1 + clip_high. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        log_ratio = sequence_log_ratio(terms)
        return clipped_surrogate(terms, log_ratio, self.clip_low, self.clip_high)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens in the clipped branch: whole responses, if advantages are constant in each."""
        log_ratio = sequence_log_ratio(terms)
        return clip_by_advantage(log_ratio, terms.advantages, self.clip_low, self.clip_high)


def sequence_log_ratio(terms: TokenTerms) -> Float[Tensor, "B T"]:
    """Log s of each token's response. 0 outside the loss mask."""
    log_ratio = log_geometric_mean(terms.log_ratio, terms.loss_mask, terms.response_ids)
    return log_ratio.expand(terms.logprobs.shape).masked_fill(~terms.loss_mask, 0.0)
