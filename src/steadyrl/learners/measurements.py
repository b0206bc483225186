"""Per-token measurements of one training step, and the metrics computed from them."""

from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from steadyrl.objectives import (
    ClipMasks,
    RoutingDisagreement,
    TokenTerms,
    clip_diagnostics,
    mismatch_diagnostics,
    reference_diagnostics,
    routing_disagreement,
    sampling_diagnostics,
    staleness_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)
from steadyrl.policies.policy import TokenScores
from steadyrl.records.routing import Routing
from steadyrl.records.token_batch import TokenBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMeasurements:
    """Measurements of `N` loss tokens, on the CPU."""

    logprobs: Float[Tensor, " N"]
    old_logprobs: Float[Tensor, " N"]
    entropy: Float[Tensor, " N"]

    rollout_logprobs: Float[Tensor, " N"] | None
    """None if no engine sampled the tokens."""

    ref_logprobs: Float[Tensor, " N"] | None = None
    """None without a reference policy."""

    clipped_low: Bool[Tensor, " N"] | None = None
    """As in `ClipMasks`, like the next three; None if the objective has no such bound."""

    clipped_high: Bool[Tensor, " N"] | None = None
    truncated: Bool[Tensor, " N"] | None = None
    masked: Bool[Tensor, " N"] | None = None

    routing: RoutingDisagreement | None = None
    """Disagreement of engine and trainer on the experts of the token before each loss token, which
    computed its prediction. None if one of them recorded no routing."""

    @classmethod
    def join(cls, parts: "list[TokenMeasurements]") -> "TokenMeasurements":
        """Joins the tokens of `parts`. A field that is None in any part with tokens is None.

        Empties `parts`, so that each value is freed as soon as it is joined.
        """
        columns: dict[str, list[Any]] = {
            field.name: [getattr(part, field.name) for part in parts if len(part.logprobs)]
            for field in fields(cls)
        }
        parts.clear()
        if not columns["logprobs"]:
            none = torch.zeros(0)
            return cls(logprobs=none, old_logprobs=none, entropy=none, rollout_logprobs=None)
        return cls(**{name: _joined(columns.pop(name)) for name in list(columns)})


def _joined(values: list[Any]) -> Any:
    if any(value is None for value in values):
        return None
    if len(values) == 1:
        return values[0]
    if isinstance(values[0], RoutingDisagreement):
        return reduce(add, values)
    return torch.cat(values)


def measured_tokens(
    micro: TokenBatch,
    terms: TokenTerms,
    scores: TokenScores,
    masks: ClipMasks,
    routing: Routing | None,
) -> TokenMeasurements:
    """Measurements of the loss tokens of `micro` in one forward pass.

    Args:
        routing: Expert choices of the pass, recorded or replayed.
    """
    mask = terms.loss_mask

    def chosen(values: Shaped[Tensor, "B T"]) -> Shaped[Tensor, " N"]:
        return values.detach()[mask].cpu()

    return TokenMeasurements(
        logprobs=chosen(terms.logprobs),
        old_logprobs=chosen(terms.old_logprobs),
        rollout_logprobs=None if micro.rollout_logprobs is None else chosen(terms.rollout_logprobs),
        entropy=chosen(scores.entropy),
        ref_logprobs=None if terms.ref_logprobs is None else chosen(terms.ref_logprobs),
        **{
            field.name: None if (met := getattr(masks, field.name)) is None else chosen(met)
            for field in fields(masks)
        },
        routing=_disagreement(micro, routing),
    )


def _disagreement(micro: TokenBatch, routing: Routing | None) -> RoutingDisagreement | None:
    """Disagreement of the engine's routing with `routing` at the tokens before loss tokens."""
    feeding = torch.nn.functional.pad(micro.loss_mask[:, 1:], (0, 1))
    if micro.rollout_routing is None or routing is None or not bool(feeding.any()):
        return None
    trainer = routing.at(feeding.to(routing.known.device))
    if routing is micro.rollout_routing:
        return routing_disagreement(trainer, trainer)
    engine = micro.rollout_routing.at(feeding)
    return routing_disagreement(engine.to(trainer.device), trainer)


def policy_metrics(tokens: TokenMeasurements) -> dict[str, Any]:
    """Metrics that compare the three policies (docs/metrics.md). Empty without tokens."""
    if len(tokens.logprobs) == 0:
        return {}
    metrics: dict[str, Any] = {"entropy": tokens.entropy.double().mean().item()}
    if tokens.ref_logprobs is not None:
        metrics |= reference_diagnostics(tokens.logprobs, tokens.ref_logprobs)
    if tokens.rollout_logprobs is None:
        return metrics
    metrics |= mismatch_diagnostics(tokens.rollout_logprobs, tokens.old_logprobs)
    metrics |= sampling_diagnostics(tokens.rollout_logprobs, tokens.logprobs, tokens.entropy)
    metrics |= temperature_diagnostics(tokens.rollout_logprobs, tokens.old_logprobs, tokens.entropy)
    metrics |= staleness_diagnostics(tokens.old_logprobs, tokens.logprobs)
    metrics |= weight_diagnostics(tokens.logprobs, tokens.rollout_logprobs)
    metrics |= clip_diagnostics(
        clipped_low=tokens.clipped_low,
        clipped_high=tokens.clipped_high,
        truncated=tokens.truncated,
        masked=tokens.masked,
    )
    if tokens.routing is not None:
        metrics |= {
            "routing_disagreement": tokens.routing.mean,
            "routing_disagreement_any_layer": tokens.routing.any_layer,
            "routing_disagreement_per_layer": tokens.routing.per_layer.tolist(),
        }
    return metrics
