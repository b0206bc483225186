"""DPPO (arXiv:2602.04879): a trust region in divergence from the rollout policy."""

from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


class Divergence(StrEnum):
    """Binary divergence of pi_theta from mu_theta_old: sampled token versus all other tokens."""

    TOTAL_VARIATION = "total_variation"
    """|mu - pi|, in probability (equation 13)."""

    KL = "kl"
    """mu log(mu / pi) + (1 - mu) log((1 - mu) / (1 - pi)), in nats (equation 14)."""


class DPPO(Objective):
    """DPPO, arXiv:2602.04879, equations 11 and 12, with a binary divergence.

        J_t = M_t sg[min(w_t, weight_cap)] A_t log pi_theta(y_t | x, y_<t)

        M_t = 0   if A_t > 0, w_t > 1 and D_t > threshold
              0   if A_t < 0, w_t < 1 and D_t > threshold
              1   otherwise

    where
        A_t   advantage, a constant;
        w_t   weight pi_theta / mu_theta_old: trainer now over rollout engine;
        D_t   binary `divergence` between mu_theta_old and pi_theta: y_t versus all other tokens;
        sg    stop-gradient.

    Mask and weight both read the rollout engine's policy; pi_theta_old is not needed.

    Source: arXiv:2602.04879, equations 11 and 12, whose surrogate M_t w_t A_t has this gradient.
    Equations and their numbers are taken from the authors' code (github.com/sail-sg/Stable-RL) and
    from implementations that cite the paper by number; the thresholds, 0.15 for total variation and
    0.05 for KL, and the cap of 20 from the code that the authors contributed to verl. The paper's
    top-K divergences, which need more than one log-probability per token from the engine, are not
    implemented.
    """

    corrects_mismatch = True
    proportional_to_advantage = True

    name: Literal["dppo"] = "dppo"

    divergence: Divergence = Divergence.TOTAL_VARIATION
    """Binary divergence of pi_theta from mu_old: sampled token versus all other tokens."""

    threshold: float = Field(0.15, gt=0)
    """Divergence above which tokens that move further away are masked. The authors use 0.15 for
    total_variation and 0.05 for kl. `.inf` disables it."""

    weight_cap: float = Field(20.0, gt=0)
    """Upper bound of the weight pi_theta / mu_old. `.inf` disables it."""

    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """J_t of each token."""
        fell, rose = self._stopped(terms)
        weight = terms.log_weight.exp().clamp(max=self.weight_cap)
        return terms.weighted_logprobs(torch.where(fell | rose, 0.0, weight * terms.advantages))

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens with M_t = 0, and tokens with a weight above the cap."""
        fell, rose = self._stopped(terms)
        truncated = terms.log_weight.exp() > self.weight_cap
        return ClipMasks(clipped_low=fell, clipped_high=rose, truncated=truncated)

    def _stopped(self, terms: TokenTerms) -> tuple[Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Tokens beyond the threshold: moved down with A < 0, and moved up with A > 0."""
        outside = binary_divergence(terms, self.divergence) > self.threshold
        log_weight, advantages = terms.log_weight, terms.advantages
        fell = outside & (advantages < 0) & (log_weight < 0)
        return fell, outside & (advantages > 0) & (log_weight > 0)


@torch.no_grad()
def binary_divergence(terms: TokenTerms, divergence: Divergence) -> Float[Tensor, "B T"]:
    """D_t of each token, without gradient; 0 outside the loss mask."""
    outcome = _probabilities(terms.logprobs, terms.loss_mask)
    rollout = _probabilities(terms.rollout_logprobs, terms.loss_mask)
    if divergence is Divergence.TOTAL_VARIATION:
        return (rollout - outcome).abs()
    cross_entropy = -rollout.xlogy(outcome) - (1 - rollout).xlogy(1 - outcome)
    return cross_entropy - torch.special.entr(rollout) - torch.special.entr(1 - rollout)


def _probabilities(
    logprobs: Float[Tensor, "B T"], loss_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    return logprobs.masked_fill(~loss_mask, 0.0).exp()
