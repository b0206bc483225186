"""Log-likelihood, for supervised learning."""

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.terms import TokenTerms


def nll(terms: TokenTerms) -> Float[Tensor, "B T"]:
    """The log-likelihood of each token, to be maximised; its negative is the NLL.

        J_t = log pi_theta(y_t | x, y_<t)

    Reads `logprobs` and `loss_mask` alone.
    """
    return terms.weighted_logprobs(torch.ones_like(terms.logprobs))
