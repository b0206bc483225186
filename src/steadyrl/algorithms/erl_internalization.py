"""How a second attempt is learned without the reflection that guided it.

For a second attempt y2, written under task x and reflection Δ, with reward r2 > 0. The paper's form
is `NLL`: J_t = log pi(y2_t | x, y2_<t).
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
    """Second attempts are reinforced under their reflections and nowhere else."""

    name: Literal["none"] = "none"


class RewardWeightedInternalization(Objective):
    """The form of the released code: J_t = r2 log pi(y2_t | x, y2_<t).

    `advantages` are r2.
    """

    name: Literal["reward_weighted"] = "reward_weighted"

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        return terms.weighted_logprobs(terms.advantages)


class ImportanceWeightedInternalization(Objective):
    """J_t = sg[min(w_t, cap)] log pi(y2_t | x, y2_<t), w_t = pi(y2_t | x) / mu(y2_t | x, Δ).

    To first order in w_t - 1 the gradient is that of the expected success of attempts at x alone.
    `rollout_logprobs` are log mu, under the reflection.
    """

    name: Literal["importance_weighted"] = "importance_weighted"

    cap: float = Field(5.0, gt=0)
    """Upper bound of the weight. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        weight = terms.log_weight.detach().exp().clamp(max=self.cap)
        return terms.weighted_logprobs(weight)


class OnPolicyDistillation(Objective):
    """The variant that the paper describes and did not run: minus KL(pi(. | x, Δ) || pi(. | x)).

    It is taken along first attempts, whose tokens were drawn under x alone, in the sampled-token
    form

        J_t = sg[min(T_t / mu_t, cap) - min(S_t / mu_t, cap)] log S_t

    where S = pi_theta(. | x, y_<t) is the student, T = pi_theta(. | x, Δ, y_<t) the teacher, both
    at the present weights, and y_t was drawn from mu. Uncapped, its gradient has the expectation

        sum_v T(v) grad log S(v) - sum_v S(v) grad log S(v) = -grad KL(T || S),

    whatever mu is, as long as it reaches every token. The second sum is 0 and takes variance off:
    J_t vanishes where student and teacher agree. So one log-probability of the sampled token is
    exact in expectation, and nothing of the size of the vocabulary is kept.

    Source: arXiv:2602.13949, its on-policy variant of internalization, which leaves open how the
    divergence is computed.
    """

    name: Literal["on_policy_distillation"] = "on_policy_distillation"

    cap: float = Field(5.0, gt=0)
    """Upper bound of the teacher's and of the student's weight. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
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
"""How second attempts are internalized."""
