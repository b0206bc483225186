"""CISPO (arXiv:2506.13585): clips the weight of a token and keeps its gradient."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class CISPO(Objective):
    """CISPO, arXiv:2506.13585, with the bounds of arXiv:2512.01374, appendix A.

        J_t = sg[clip(r_t, 1 - clip_low, 1 + clip_high)] A_t log pi_theta(y_t | x, y_<t)

    where
        A_t   advantage, a constant;
        r_t   ratio pi_theta / pi_theta_old;
        sg    stop-gradient.

    Source: arXiv:2506.13585, equations 4 and 5. Group-normalized advantages and the mean over a
    group's tokens are `group_mean_std` and `Aggregation.GROUP_TOKEN_MEAN`.
    """

    proportional_to_advantage = True

    name: Literal["cispo"] = "cispo"

    clip_low: float = Field(0.2, gt=0)
    """Ratios are clipped at 1 - clip_low. `.inf` disables it."""

    clip_high: float = Field(0.27, gt=0)
    """Ratios are clipped at 1 + clip_high. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        clipped_ratio = terms.log_ratio.exp().clamp(1 - self.clip_low, 1 + self.clip_high)
        return terms.weighted_logprobs(clipped_ratio * terms.advantages)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with a clipped weight, for either sign of the advantage. They keep gradient."""
        ratio = terms.log_ratio.exp()
        return ClipMasks(
            clipped_low=ratio < 1 - self.clip_low, clipped_high=ratio > 1 + self.clip_high
        )
