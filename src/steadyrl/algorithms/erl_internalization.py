"""Internalization: training on second attempts without the reflections that guided them.

For a second attempt y2 given task x and reflection Δ, with reward r2 > 0. The paper's form is
`NLL`: J_t = log pi(y2_t | x, y2_<t).
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from steadyrl.base.variants import Variant, Variants
from steadyrl.objectives import NLL, Objective, TokenTerms
from steadyrl.objectives.quotient import log_quotient


class NoInternalization(Variant):
    """No internalization: second attempts are only reinforced given their reflections."""

    name: Literal["none"] = "none"


class RewardWeightedInternalization(Objective):
    """Form of the released code: J_t = r2 log pi(y2_t | x, y2_<t).

    `advantages` are r2.
    """

    name: Literal["reward_weighted"] = "reward_weighted"

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """Objective J_t of each token."""
        return terms.weighted_logprobs(terms.advantages)


class ImportanceWeightedInternalization(Objective):
    """J_t = sg[min(w_t, cap)] log pi(y2_t | x, y2_<t), w_t = pi(y2_t | x) / mu(y2_t | x, Δ).

    To first order in w_t - 1 the gradient is that of the expected success of attempts given x
    alone. `rollout_logprobs` are log mu, given the reflection.
    """

    name: Literal["importance_weighted"] = "importance_weighted"

    cap: float = Field(5.0, gt=0)
    """Upper bound of the weight. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """Objective J_t of each token."""
        weight = terms.log_weight.detach().exp().clamp(max=self.cap)
        return terms.weighted_logprobs(weight)


class OnPolicyDistillation(Objective):
    """Variant described but not evaluated in the paper: minus KL(pi(. | x, Δ) || pi(. | x)).

    The divergence is estimated on first attempts, which are sampled given x alone, from the sampled
    tokens:

        J_t = sg[min(T_t / mu_t, cap) - min(S_t / mu_t, cap)] log S_t

    where S = pi_theta(. | x, y_<t) is the student, T = pi_theta(. | x, Δ, y_<t) the teacher, both
    with the current weights, and y_t is sampled from mu. Without the cap, the expected gradient is

        sum_v T(v) grad log S(v) - sum_v S(v) grad log S(v) = -grad KL(T || S),

    for any mu that is positive for every token. The second sum is 0 and reduces variance: J_t
    vanishes where student and teacher agree. One log-probability per token is therefore exact in
    expectation, and nothing of the size of the vocabulary is stored.

    Source: arXiv:2602.13949, its on-policy variant of internalization, which leaves the computation
    of the divergence open.
    """

    name: Literal["on_policy_distillation"] = "on_policy_distillation"

    cap: float = Field(5.0, gt=0)
    """Upper bound of the weights of teacher and student. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """Objective J_t of each token."""
        assert terms.teacher_logprobs is not None
        teacher = terms.teacher_logprobs.masked_fill(~terms.loss_mask, 0.0)
        rollout = terms.rollout_logprobs.masked_fill(~terms.loss_mask, 0.0)
        imitated = log_quotient(teacher, rollout).exp().clamp(max=self.cap)
        own = terms.log_weight.detach().exp().clamp(max=self.cap)
        return terms.weighted_logprobs(torch.where(terms.loss_mask, imitated - own, 0.0))


AnyInternalization = Annotated[
    NoInternalization | Objective,
    Variants(
        Variant,
        None,
        NoInternalization,
        NLL,
        RewardWeightedInternalization,
        ImportanceWeightedInternalization,
        OnPolicyDistillation,
    ),
]
"""Settings of any form of internalization."""
