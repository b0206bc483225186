"""Distances between the three policies, measured on the `N` loss tokens of a batch.

Every function raises `UserError` if there are no tokens. Results are NaN only if a log-probability
is NaN; a KL is infinite if a policy assigns probability 0 to a sampled token.
"""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives.kl import k1, k3
from steadyrl.objectives.quotient import log_quotient


def mismatch_diagnostics(
    rollout_logprobs: Float[Tensor, " N"], old_logprobs: Float[Tensor, " N"], tau: float = 2.0
) -> dict[str, float]:
    """Training-inference discrepancy between engine and trainer with equal weights.

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


def sampling_diagnostics(
    rollout_logprobs: Float[Tensor, " N"],
    logprobs: Float[Tensor, " N"],
    entropy: Float[Tensor, " N"],
) -> dict[str, float]:
    """Test of whether the engine sampled its tokens from the distribution that it reports.

    Let w = pi_theta / mu_old and d = w (-log pi_theta) - H[pi_theta] for one token. If the token
    was sampled from mu_old, and mu_old > 0 wherever pi_theta > 0, then E[d] = 0 given all tokens
    before it, however far apart the policies are. So the values d of a batch are uncorrelated, the
    standard error of their sum is sqrt(sum d^2), and the sum in these units is about normal.

    Args:
        entropy: H[pi_theta], in nats.

    Returns:
        surprisal_gap: mean of d in nats per token. Negative: the sampled tokens are likelier than
            the reported probabilities, for example because these omit a filter such as top-p.
        surprisal_gap_z: the same in units of its standard error.
    """
    _require_tokens(logprobs)
    weight = log_quotient(logprobs, rollout_logprobs).double().exp()
    impossible = torch.isneginf(logprobs)  # w log pi_theta goes to 0 with pi_theta
    surprisal = -logprobs.double().masked_fill(impossible, 0.0)
    gaps = weight * surprisal - entropy.double()
    spread = gaps.square().sum().sqrt().item()
    return {
        "surprisal_gap": _mean(gaps),
        "surprisal_gap_z": gaps.sum().item() / spread if spread > 0 else 0.0,
    }


def temperature_diagnostics(
    rollout_logprobs: Float[Tensor, " N"],
    old_logprobs: Float[Tensor, " N"],
    entropy: Float[Tensor, " N"],
) -> dict[str, float]:
    """Share of the mismatch that a temperature difference explains.

    If the engine's temperature is q times the trainer's, then pi_old is proportional to mu_old^q,
    and to first order in q - 1

        log(pi_old / mu_old) = -(q - 1) s,    s = -log mu_old - H,

    where s is the excess surprisal of the token. A least-squares fit of the left side on s gives q.
    Rounding errors have no such slope. A policy that has become sharper while the engine kept older
    weights has one.

    Args:
        entropy: H of the trainer's policy, in nats.

    Returns:
        temperature_ratio: q; 1 if the policies do not differ.
        temperature_share: share of the variance of log(pi_old / mu_old) explained by the fit.
    """
    _require_tokens(old_logprobs)
    log_mismatch = log_quotient(old_logprobs, rollout_logprobs).double()
    excess = -rollout_logprobs.double() - entropy.double()
    possible = torch.isfinite(log_mismatch) & torch.isfinite(excess)
    difference = _center(log_mismatch[possible])
    excess = _center(excess[possible])
    covariance = (difference * excess).sum().item()
    variances = (excess.square().sum().item(), difference.square().sum().item())
    if min(variances) == 0:
        return {"temperature_ratio": 1.0, "temperature_share": 0.0}
    return {
        "temperature_ratio": 1 - covariance / variances[0],
        "temperature_share": covariance**2 / (variances[0] * variances[1]),
    }


def staleness_diagnostics(
    old_logprobs: Float[Tensor, " N"], logprobs: Float[Tensor, " N"]
) -> dict[str, float]:
    """Policy staleness: divergence between the trainer before the update and the trainer now.

    Returns:
        staleness_kl_k3: KL(pi_old || pi_theta) in nats per token, by `k3`. The tokens were sampled
            from mu_old, so the estimate is exact only if mu_old equals pi_old.
    """
    _require_tokens(old_logprobs)
    return {"staleness_kl_k3": _mean(k3(old_logprobs, logprobs))}


def reference_diagnostics(
    logprobs: Float[Tensor, " N"], ref_logprobs: Float[Tensor, " N"]
) -> dict[str, float]:
    """Divergence of the policy from the reference.

    Returns:
        reference_kl: KL(pi_theta || pi_ref) in nats per token, by `k3` without its bound. The
            tokens were sampled from mu_old, so the estimate is exact only if mu_old equals
            pi_theta.
    """
    _require_tokens(logprobs)
    return {"reference_kl": _mean(k3(logprobs, ref_logprobs))}


def weight_diagnostics(
    logprobs: Float[Tensor, " N"], rollout_logprobs: Float[Tensor, " N"]
) -> dict[str, float]:
    """Concentration of the importance weights w = pi_theta / mu_old.

    Returns:
        ess: effective sample size as a share of the tokens, (sum w)^2 / (N sum w^2), before
            truncation: 1 if all weights are equal, 1/N if one weight dominates, 0 if all are 0.
    """
    _require_tokens(logprobs)
    log_weight = log_quotient(logprobs, rollout_logprobs)
    log_ess = 2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)
    all_weights_zero = bool(torch.isneginf(log_weight).all())
    return {"ess": 0.0 if all_weights_zero else log_ess.exp().item() / len(log_weight)}


def clip_diagnostics(
    *,
    clipped_low: Bool[Tensor, " N"] | None,
    clipped_high: Bool[Tensor, " N"] | None,
    truncated: Bool[Tensor, " N"] | None,
    masked: Bool[Tensor, " N"] | None,
) -> dict[str, float]:
    """Shares of tokens affected by each bound of the objective and its correction.

    Returns:
        truncated_weight_fraction: tokens with a weight above its cap.
        clip_fraction_low: tokens clipped at the lower bound of the trust region.
        clip_fraction_high: tokens clipped at its upper bound.
        masked_fraction: tokens masked out by a correction.
        Masks that are None have no entry.
    """
    masks = {
        "truncated_weight_fraction": truncated,
        "clip_fraction_low": clipped_low,
        "clip_fraction_high": clipped_high,
        "masked_fraction": masked,
    }
    given = {name: tokens for name, tokens in masks.items() if tokens is not None}
    for tokens in given.values():
        _require_tokens(tokens)
    return {name: _mean(tokens) for name, tokens in given.items()}


def _mean(values: Tensor) -> float:
    return values.detach().double().mean().item()


def _center(values: Tensor) -> Tensor:
    return values - values.mean() if len(values) else values


def _require_tokens(values: Shaped[Tensor, " N"]) -> None:
    if len(values) == 0:
        raise UserError(
            "Diagnostics require at least one loss token, got none. "
            "Skip batches whose loss mask is empty."
        )
