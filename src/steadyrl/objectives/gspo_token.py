"""GSPO-token (arXiv:2507.18071): GSPO for advantages that differ within a response."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks, clip_by_advantage
from steadyrl.objectives.grpo import clipped_surrogate
from steadyrl.objectives.gspo import sequence_log_ratio
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.quotient import log_quotient
from steadyrl.objectives.terms import TokenTerms


class GSPOToken(Objective):
    """GSPO-token, arXiv:2507.18071, equation 13: each token keeps its own gradient.

        J_t = min( s_t A_t,  clip(s_t, 1 - clip_low, 1 + clip_high) A_t )

        s_t = sg[s] pi_theta(y_t | x, y_<t) / sg[pi_theta(y_t | x, y_<t)]

    where s and A_t are defined as in `GSPO`, and sg is the stop-gradient: s_t has the value of s,
    but its gradient only reaches its own token. Value and gradient equal those of `GSPO` if all
    tokens of a response have the same advantage.

    Source: arXiv:2507.18071, equations 13 and 14. The paper aggregates by
    `Aggregation.LENGTH_NORM`.
    """

    proportional_to_advantage = True
    reads_responses = True

    name: Literal["gspo_token"] = "gspo_token"

    clip_low: float = Field(3e-4, gt=0)
    """Tokens with A < 0 stop at a sequence ratio below 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(4e-4, gt=0)
    """Tokens with A > 0 stop at a sequence ratio above 1 + clip_high. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        logprobs = terms.logprobs.masked_fill(~terms.loss_mask, 0.0)
        log_ratio = sequence_log_ratio(terms).detach() + log_quotient(logprobs, logprobs.detach())
        return clipped_surrogate(terms, log_ratio, self.clip_low, self.clip_high)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that take the clipped branch, without gradient."""
        log_ratio = sequence_log_ratio(terms)
        return clip_by_advantage(log_ratio, terms.advantages, self.clip_low, self.clip_high)
