"""How far apart the three policies are, measured on the `N` loss tokens of a batch.

Every function raises `UserError` when there is no token: no number would be true. None returns
NaN for log-probabilities that are not NaN; a KL is infinite where a policy gives no probability
to a token that was sampled.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from steadyrl.objectives.clipping import above_clip, below_clip
from steadyrl.objectives.kl import k1, k3
from steadyrl.objectives.quotient import log_quotient
from steadyrl.records.errors import UserError


def mismatch_diagnostics(
    rollout_logprobs: Float[Tensor, " N"], old_logprobs: Float[Tensor, " N"], tau: float = 2.0
) -> dict[str, float]:
    """Training-inference discrepancy: engine against trainer at equal weights.

    Returns:
        mismatch_kl_k1: KL(mu_old || pi_old) in nats per token, by `k1` (arXiv:2512.01374).
        mismatch_kl_k3: the same, by `k3` (arXiv:2510.11370).
        extreme_token_fraction: tokens with max(u, 1/u) > tau, u = pi_old / mu_old
            (F(tau) of arXiv:2510.11370).
    """
    _require_tokens(rollout_logprobs)
    log_mismatch = log_quotient(old_logprobs, rollout_logprobs)
    return {
        "mismatch_kl_k1": _mean(k1(rollout_logprobs, old_logprobs)),
        "mismatch_kl_k3": _mean(k3(rollout_logprobs, old_logprobs)),
        "extreme_token_fraction": _mean(log_mismatch.abs() > math.log(tau)),
    }


def staleness_diagnostics(
    old_logprobs: Float[Tensor, " N"], logprobs: Float[Tensor, " N"]
) -> dict[str, float]:
    """Policy staleness: the trainer before the update against the trainer now.

    Returns:
        staleness_kl_k3: KL(pi_old || pi_theta) in nats per token, by `k3`. The tokens were
            sampled from mu_old, so it is exact only as far as mu_old is pi_old.
    """
    _require_tokens(old_logprobs)
    return {"staleness_kl_k3": _mean(k3(old_logprobs, logprobs))}


def weight_diagnostics(
    logprobs: Float[Tensor, " N"], rollout_logprobs: Float[Tensor, " N"], weight_cap: float
) -> dict[str, float]:
    """The importance weights w = pi_theta / mu_old.

    Returns:
        ess: effective sample size as a share of the tokens, (sum w)^2 / (N sum w^2), before
            truncation: 1 when all weights are equal, 1/N when one outweighs all, 0 when all are 0.
        truncated_weight_fraction: tokens with w > weight_cap.
    """
    _require_tokens(logprobs)
    log_weight = log_quotient(logprobs, rollout_logprobs)
    log_ess = 2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)
    all_weights_zero = bool(torch.isneginf(log_weight).all())
    return {
        "ess": 0.0 if all_weights_zero else log_ess.exp().item() / len(log_weight),
        "truncated_weight_fraction": _mean(log_weight > math.log(weight_cap)),
    }


def clip_diagnostics(
    old_logprobs: Float[Tensor, " N"],
    logprobs: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    clip_low: float,
    clip_high: float,
) -> dict[str, float]:
    """Tokens whose gradient the mask M_t of arXiv:2512.01374, equation 7, removes.

    Returns:
        clip_fraction_low: of all tokens, those with A < 0 and ratio < 1 - clip_low.
        clip_fraction_high: of all tokens, those with A > 0 and ratio > 1 + clip_high.
    """
    _require_tokens(logprobs)
    log_ratio = log_quotient(logprobs, old_logprobs)
    return {
        "clip_fraction_low": _mean(below_clip(log_ratio, advantages, clip_low)),
        "clip_fraction_high": _mean(above_clip(log_ratio, advantages, clip_high)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDisagreement:
    """How often engine and trainer chose different sets of experts."""

    per_layer: Float[Tensor, " L"]
    """For each MoE layer, the fraction of tokens whose set differs."""

    any_layer: float
    """Fraction of tokens whose set differs in one layer at least."""

    mean: float
    """Fraction of all (token, layer) pairs whose set differs."""


def routing_disagreement(
    engine: Integer[Tensor, "N L K"], trainer: Integer[Tensor, "N L K"]
) -> RoutingDisagreement:
    """The disagreement of two routings of the same tokens. The order of experts does not count.

    Source: arXiv:2510.11370, its router positions with different expert sets.
    """
    if engine.numel() == 0:
        raise UserError(
            f"Routing disagreement needs a token and an MoE layer, got shape {tuple(engine.shape)} "
            "(tokens, layers, experts per token). Leave it out for such a batch."
        )
    differs = (engine.sort(dim=-1).values != trainer.sort(dim=-1).values).any(dim=-1)
    return RoutingDisagreement(
        per_layer=differs.float().mean(dim=0),
        any_layer=_mean(differs.any(dim=1)),
        mean=_mean(differs),
    )


def _mean(values: Tensor) -> float:
    return values.detach().double().mean().item()


def _require_tokens(values: Float[Tensor, " N"]) -> None:
    if len(values) == 0:
        raise UserError(
            "Diagnostics need a token that carries loss, got none. "
            "Leave them out for a batch whose loss mask is empty."
        )
