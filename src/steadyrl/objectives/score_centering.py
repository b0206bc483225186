"""Score centering (arXiv:2609.20807): subtracts what the engine's sampling adds on average."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, SerializeAsAny
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.variants import Variants
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.corrections import Correction, Masking, NoCorrection, Truncation
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.objective_calls import token_masks, token_values
from steadyrl.objectives.terms import CandidateTerms, TokenTerms

LEAST_MASS = 1e-6
"""Lower bound of the probability of all tokens that are not candidates."""


class ScoreCentering(Correction):
    """Score centering, arXiv:2609.20807, alone or with weights of the mismatch.

    The objective, or the objective with the weights of `weights`, has a gradient c(v) grad log
    pi_theta(v) at a token v. Each token also gets the negative of its mean over what the engine
    could have sampled instead, so that the mean over the engine's samples is 0 in every place:

        c(y_t) grad log pi_theta(y_t) - sum_v mu_theta_old(v) c(v) grad log pi_theta(v)

    It removes what pulls the trainer towards the engine whatever is rewarded, and leaves the
    covariance of advantage and score under mu_theta_old. It fits every objective, those that weigh
    tokens by pi_theta / mu_theta_old included.
    """

    name: Literal["score_centering"] = "score_centering"

    candidates: int = Field(128, ge=1)
    """Number of the engine's most probable tokens whose probabilities are read in the place of each
    token. The others count as distributed as under the trainer."""

    weights: Annotated[
        Correction, Variants(Correction, None, NoCorrection, Truncation, Masking)
    ] = NoCorrection()
    """Weights of the mismatch whose mean is subtracted, too: none, truncation or masking, at the
    level `token`."""

    def apply_to(self, objective: Objective) -> Objective:
        """Returns the objective, with its weights, minus its mean over the engine's samples.

        Raises:
            UserError: the objective corrects the mismatch and so do the weights, or it cannot be
                computed for tokens that were not sampled.
        """
        weighted = self.weights.apply_to(objective)
        for reads, what in (
            (weighted.reads_responses, "whole responses"),
            (weighted.reads_reference, "the reference policy"),
            (weighted.reads_candidates, "candidates"),
        ):
            if reads:
                raise UserError(
                    f"correction is 'score_centering', but the objective {objective.name!r} with "
                    f"the weights {self.weights.name!r} reads {what}, and has no value for tokens "
                    "that were not sampled. Choose an objective of single tokens, such as "
                    "'minirl', and weights at the level 'token'."
                )
        return Centered(objective=weighted, candidates=self.candidates)


class Centered(Objective):
    """An objective minus its mean over the tokens that the engine could have sampled.

        J'_t = J_t - sum_v sg[mu(v) c(v)] log pi_theta(v)

    where the sum is over the candidates H and one more outcome, the tail T of all other tokens:
        mu(v)   probability of v under mu_theta_old; mu(T) = 1 - sum_H mu(v), as under pi_theta;
        c(v)    derivative of J_t by log pi_theta(y_t), if y_t were v with the same advantage;
        sg      stop-gradient.

    With c(v) = A f(pi_theta(v) / mu(v)) this is the paper's loss: its tail is mu(v) = rho
    pi_theta(v) with rho = mu(T) / pi_theta(T), whose term rho f(1 / rho) sum_T pi_theta(v) grad log
    pi_theta(v) is mu(T) c(T) grad log pi_theta(T). Clipping by pi_theta / pi_theta_old, which the
    paper does without, stops c(v) for each v by its own ratio, and c(T) by that of the tails.

    Source: equations 7 to 12 and appendix A.2 by implementations that cite them by number, which
    agree with each other; the paper itself was not at hand.

    Example:
        ScoreCentering(candidates=20).apply_to(MiniRL())(terms)
    """

    corrects_mismatch = True

    name: Literal["centered"] = "centered"
    objective: SerializeAsAny[Objective]
    candidates: int = Field(ge=1)

    @property
    def reads_candidates(self) -> int:  # type: ignore[override]
        """Number of candidates that are read."""
        return self.candidates

    @property
    def proportional_to_advantage(self) -> bool:  # type: ignore[override]
        """Whether the objective is proportional to the advantage: its mean is, too, then."""
        return self.objective.proportional_to_advantage

    @property
    def reads_router(self) -> bool:  # type: ignore[override]
        """Whether the objective reads router shifts."""
        return self.objective.reads_router

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J'_t of each token.

        Raises:
            UserError: the terms have no candidates.
        """
        if terms.candidates is None:
            raise UserError(
                "Score centering needs the engine's most probable tokens (terms.candidates), and "
                "these terms have none. Provide them, or leave score centering out."
            )
        values = token_values(self.objective, terms)
        outcomes = _with_tail(terms.candidates)
        coefficients = self._coefficients(terms, outcomes)
        masses = outcomes.rollout_logprobs.exp() * coefficients
        kept = outcomes.logprobs.masked_fill(masses == 0, 0.0)
        means = torch.where(masses == 0, 0.0, masses * kept).sum(dim=1)
        return values - torch.zeros_like(values).masked_scatter(terms.loss_mask, means)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Masks of the objective."""
        return token_masks(self.objective, terms)

    def _coefficients(self, terms: TokenTerms, outcomes: CandidateTerms) -> Float[Tensor, "N V"]:
        """c(v) of every outcome in the place of each loss token, without gradient."""
        shape = outcomes.logprobs.shape

        def spread(values: Float[Tensor, "B T"]) -> Float[Tensor, "N V"]:
            return values[terms.loss_mask].detach()[:, None].expand(shape)

        with torch.enable_grad():
            own = outcomes.logprobs.detach().requires_grad_()
            there = replace(
                terms,
                logprobs=own,
                old_logprobs=outcomes.old_logprobs,
                rollout_logprobs=outcomes.rollout_logprobs,
                advantages=spread(terms.advantages),
                loss_mask=torch.ones(shape, dtype=torch.bool, device=own.device),
                response_ids=None,
                teacher_logprobs=None,
                ref_logprobs=None,
                router_shift=None if terms.router_shift is None else spread(terms.router_shift),
                candidates=None,
            )
            value = token_values(self.objective, there).sum()
        return torch.autograd.grad(value, own)[0]


def _with_tail(candidates: CandidateTerms) -> CandidateTerms:
    """The candidates, and as the last outcome all other tokens together."""
    return CandidateTerms(
        logprobs=_append_tail(candidates.logprobs),
        old_logprobs=_append_tail(candidates.old_logprobs.detach()),
        rollout_logprobs=_append_tail(candidates.rollout_logprobs.detach()),
    )


def _append_tail(logprobs: Float[Tensor, "N K"]) -> Float[Tensor, "N V"]:
    """Log-probabilities, and the logarithm of what they leave of 1."""
    left = 1 - logprobs.exp().sum(dim=1, keepdim=True)
    return torch.cat([logprobs, left.clamp(min=LEAST_MASS).log()], dim=1)
