"""Contribution of each source of log(pi_theta / mu_old), and flipped expert choices by layer.

Log-ratios of steps add up to the whole, token by token, and so do k1 and the covariances with the
whole. What a step is worth depends on those taken before it: where the two orders differ, sources
act together, and neither number is the right one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from steadyrl.analysis.mismatch.layers import LayerFlips, layer_flips
from steadyrl.analysis.mismatch.passes import (
    MU,
    OLD,
    Order,
    Pass,
    Rescored,
    Source,
)
from steadyrl.objectives import mismatch_diagnostics, weight_diagnostics
from steadyrl.records.routing import RoutingReplay


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Distance of the policy q after a step from the policy p before it, over the loss tokens.

    The tokens were sampled from mu_old, so k1 and k3 estimate KL(p || q) as far as p is mu_old.
    """

    kl_k1: float
    """Mean of -log u, u = q / p, in nats a token. Those of the steps add up to the whole's."""

    kl_k3: float
    """Mean of u - 1 - log u. Those of the steps do not add up."""

    mean_absolute: float
    """Mean of |log u|."""

    variance: float
    """Variance of log u. Variances of correlated steps do not add up."""

    share: float | None
    """cov(log u, whole) / var(whole), where the whole is log(pi_theta / mu_old). Those of the steps
    add up to 1; that of a step that undoes others is negative. None if the whole does not vary."""

    extreme_token_fraction: float
    """Mean of 1[max(u, 1/u) > 2]: F(2) of arXiv:2510.11370."""

    ess: float
    """Effective sample size under the weights u, as a share of the tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchSources:
    """The account of a batch."""

    tokens: int

    whole: Change
    """The total, from mu_old to pi_theta, or to pi_old without newer weights."""

    orders: Mapping[Order, Mapping[Source, Change]]

    replayed: Mapping[RoutingReplay, Change]
    """The whole as routing replay leaves it (arXiv:2512.01374, sections on R2 and R3): R2 replays
    the routes of pi_old under the new weights, R3 those of the engine. Empty without routes."""

    flips: Mapping[Source, tuple[LayerFlips, ...]]
    """By MoE layer: `routing` compares the choices of pi_old with those of the engine,
    `stale_routing` with those of pi_theta. Margins are those of pi_old. Empty without routes."""


def mismatch_sources(rescored: Rescored) -> MismatchSources:
    """The account of what was rescored.

    Raises:
        UserError: no token carries loss.
    """
    start, end = rescored.rollout_logprobs, rescored.logprobs[Pass(rescored.end, rescored.end)]
    return MismatchSources(
        tokens=len(start),
        whole=_change(start, end, end - start),
        orders={
            order: {
                source: _change(before, after, end - start)
                for source, (before, after) in rescored.steps(order).items()
            }
            for order in rescored.paths
        },
        replayed={
            replay: _change(start, rescored.logprobs[step], end - start)
            for replay, step in _replayed(rescored).items()
        },
        flips={
            source: layer_flips(flips, rescored.margins) for source, flips in rescored.flips.items()
        },
    )


def _change(
    before: Float[Tensor, " N"], after: Float[Tensor, " N"], whole: Float[Tensor, " N"]
) -> Change:
    measured = mismatch_diagnostics(before, after)
    log_ratio = after - before
    centered, centered_whole = log_ratio - log_ratio.mean(), whole - whole.mean()
    variance = centered_whole.square().mean().item()
    covariance = (centered * centered_whole).mean().item()
    return Change(
        kl_k1=measured["mismatch_kl_k1"],
        kl_k3=measured["mismatch_kl_k3"],
        mean_absolute=log_ratio.abs().mean().item(),
        variance=centered.square().mean().item(),
        share=covariance / variance if variance > 0 else None,
        extreme_token_fraction=measured["extreme_token_fraction"],
        ess=weight_diagnostics(after, before)["ess"],
    )


def _replayed(rescored: Rescored) -> dict[RoutingReplay, Pass]:
    """The last pass under each kind of replay."""
    if not rescored.flips:
        return {}
    return {RoutingReplay.R2: Pass(rescored.end, OLD), RoutingReplay.R3: Pass(rescored.end, MU)}
