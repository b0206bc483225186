"""REINFORCE (Williams, 1992): the policy gradient without corrections."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class Reinforce(Objective):
    """REINFORCE, without corrections.

        J_t = A_t log pi_theta(y_t | x, y_<t)

    where
        A_t   advantage, a constant.

    It is an unbiased estimate of the gradient of the expected reward if tokens are sampled from
    pi_theta.

    Source: R. J. Williams, "Simple statistical gradient-following algorithms for connectionist
    reinforcement learning", Machine Learning 8, 1992; arXiv:2512.01374, equation 2, with all
    policies equal.
    """

    proportional_to_advantage = True

    name: Literal["reinforce"] = "reinforce"

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        return terms.weighted_logprobs(terms.advantages)
