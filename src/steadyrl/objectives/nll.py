"""Log-likelihood objective for supervised learning."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class NLL(Objective):
    """Log-likelihood of each token: the negative of the NLL loss.

        J_t = log pi_theta(y_t | x, y_<t)

    Only reads `logprobs` and `loss_mask`.
    """

    name: Literal["nll"] = "nll"

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        return terms.weighted_logprobs(torch.ones_like(terms.logprobs))
