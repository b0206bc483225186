"""Metrics of the three policies (docs/metrics.md) for the loop of another trainer."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from steadyrl.objectives import (
    ClipMasks,
    RoutingDisagreement,
    TokenTerms,
    clip_diagnostics,
    mismatch_diagnostics,
    sampling_diagnostics,
    staleness_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTokens:
    """Values of the `N` loss tokens of a micro-batch, on the CPU."""

    logprobs: Float[Tensor, " N"]
    old_logprobs: Float[Tensor, " N"]
    rollout_logprobs: Float[Tensor, " N"]
    entropy: Float[Tensor, " N"]

    masks: ClipMasks
    """Of shape `1 N`."""

    routing: RoutingDisagreement | None
    """Disagreement of engine and trainer; None: one of them has no recorded routing."""

    @classmethod
    def of(
        cls,
        terms: TokenTerms,
        entropy: Float[Tensor, "B T"],
        masks: ClipMasks,
        routing: RoutingDisagreement | None,
    ) -> "MeasuredTokens":
        """The loss tokens of `terms`."""

        def chosen(values: Shaped[Tensor, "B T"]) -> Shaped[Tensor, " N"]:
            return values.detach()[terms.loss_mask].cpu()

        given = {field.name: getattr(masks, field.name) for field in fields(masks)}
        return cls(
            logprobs=chosen(terms.logprobs),
            old_logprobs=chosen(terms.old_logprobs),
            rollout_logprobs=chosen(terms.rollout_logprobs),
            entropy=chosen(entropy),
            masks=ClipMasks(
                **{
                    name: None if mask is None else chosen(mask)[None]
                    for name, mask in given.items()
                }
            ),
            routing=routing,
        )


def token_metrics(parts: Sequence[MeasuredTokens]) -> dict[str, float]:
    """Metrics over all tokens of `parts`; empty without tokens."""
    parts = [part for part in parts if len(part.logprobs)]
    if not parts:
        return {}

    def joined(name: str) -> Float[Tensor, " N"]:
        return torch.cat([getattr(part, name) for part in parts])

    logprobs, old, rollout = map(joined, ("logprobs", "old_logprobs", "rollout_logprobs"))
    entropy = joined("entropy")
    metrics = {"entropy": entropy.double().mean().item()}
    metrics |= mismatch_diagnostics(rollout, old)
    metrics |= sampling_diagnostics(rollout, logprobs, entropy)
    metrics |= temperature_diagnostics(rollout, old, entropy)
    metrics |= staleness_diagnostics(old, logprobs)
    metrics |= weight_diagnostics(logprobs, rollout)
    names = [field.name for field in fields(ClipMasks)]
    metrics |= clip_diagnostics(**{name: _joined_masks(parts, name) for name in names})
    routing = [part.routing for part in parts if part.routing is not None]
    if routing:
        total = reduce(add, routing)
        metrics["routing_disagreement"] = total.mean
        metrics["routing_disagreement_any_layer"] = total.any_layer
    return metrics


def _joined_masks(parts: Sequence[MeasuredTokens], name: str) -> Bool[Tensor, " N"] | None:
    masks = [getattr(part.masks, name) for part in parts]
    return None if any(mask is None for mask in masks) else torch.cat(masks, dim=1)[0]
