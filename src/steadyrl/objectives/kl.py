"""Estimators of KL(p || q) from tokens sampled from p.

With u = q / p, both have expectation KL(p || q) under p. k1 has the higher variance and may be
negative; k3 is never negative. Their values on one sample are not comparable. Names after
J. Schulman, "Approximating KL divergence", 2020.
"""

from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives.quotient import log_quotient


def k1(
    logprobs_p: Float[Tensor, "*shape"], logprobs_q: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The estimate -log u of each token; infinite if q is 0.

    Source: arXiv:2512.01374, KL divergence between engine (p) and trainer (q).
    """
    return -log_quotient(logprobs_q, logprobs_p)


def k3(
    logprobs_p: Float[Tensor, "*shape"], logprobs_q: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The estimate u - 1 - log u >= 0 of each token; infinite if q is 0.

    Source: arXiv:2510.11370, KL divergence with u = trainer / engine. Samples come from the engine,
    so this estimates KL(engine || trainer), although the paper's notation has the reverse.
    """
    log_u = log_quotient(logprobs_q, logprobs_p)
    return log_u.expm1() - log_u
