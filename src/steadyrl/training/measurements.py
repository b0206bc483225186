"""What one step of the loop measures on its tokens."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from steadyrl.objectives import (
    Limited,
    TokenTerms,
    limit_diagnostics,
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
    """What was computed about `N` loss tokens, on the CPU."""

    logprobs: Float[Tensor, " N"]
    old_logprobs: Float[Tensor, " N"]
    entropy: Float[Tensor, " N"]
    advantages: Float[Tensor, " N"]

    rollout_logprobs: Float[Tensor, " N"] | None
    """None for tokens that no engine sampled."""

    ref_logprobs: Float[Tensor, " N"] | None = None
    """None where there is no reference."""

    clipped_low: Bool[Tensor, " N"] | None = None
    """As in `Limited`; None where there is no such limit. So are the next three."""

    clipped_high: Bool[Tensor, " N"] | None = None
    truncated: Bool[Tensor, " N"] | None = None
    masked: Bool[Tensor, " N"] | None = None

    engine_routing: Integer[Tensor, "N L K"] | None
    """Experts the engine chose for the token before each one: what its prediction was made of."""

    trainer_routing: Integer[Tensor, "N L K"] | None
    """Experts the trainer used there."""

    @classmethod
    def join(cls, parts: "list[TokenMeasurements]") -> "TokenMeasurements":
        """All tokens of `parts`. Routing is kept where every part has it."""
        if not parts:
            none = torch.zeros(0)
            return cls(
                logprobs=none,
                old_logprobs=none,
                entropy=none,
                advantages=none,
                rollout_logprobs=None,
                engine_routing=None,
                trainer_routing=None,
            )
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            joined[field.name] = None if any(v is None for v in values) else torch.cat(values)
        return cls(**joined)


def measured_tokens(
    micro: TokenBatch, terms: TokenTerms, scores: TokenScores, limited: Limited
) -> TokenMeasurements:
    """What a pass over the rows of `micro` computed about their loss tokens."""
    mask = terms.loss_mask

    def chosen(values: Shaped[Tensor, "B T"]) -> Shaped[Tensor, " N"]:
        return values.detach()[mask].cpu()

    def feeding(routing: Routing | None) -> Tensor | None:
        """Experts of the token before each loss token."""
        return None if routing is None else routing.experts[:, :-1].cpu()[micro.loss_mask[:, 1:]]

    return TokenMeasurements(
        logprobs=chosen(terms.logprobs),
        old_logprobs=chosen(terms.old_logprobs),
        rollout_logprobs=None if micro.rollout_logprobs is None else chosen(terms.rollout_logprobs),
        entropy=chosen(scores.entropy),
        advantages=chosen(terms.advantages),
        ref_logprobs=None if terms.ref_logprobs is None else chosen(terms.ref_logprobs),
        **{
            limit.name: None if (met := getattr(limited, limit.name)) is None else chosen(met)
            for limit in fields(limited)
        },
        engine_routing=feeding(micro.rollout_routing),
        trainer_routing=feeding(scores.routing),
    )


def policy_metrics(tokens: TokenMeasurements) -> dict[str, Any]:
    """The metrics of docs/metrics.md that speak of the three policies. Empty without tokens."""
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
    metrics |= limit_diagnostics(
        clipped_low=tokens.clipped_low,
        clipped_high=tokens.clipped_high,
        truncated=tokens.truncated,
        masked=tokens.masked,
    )
    if tokens.engine_routing is not None and tokens.trainer_routing is not None:
        disagreement = routing_disagreement(tokens.engine_routing, tokens.trainer_routing)
        metrics |= {
            "routing_disagreement": disagreement.mean,
            "routing_disagreement_any_layer": disagreement.any_layer,
            "routing_disagreement_per_layer": disagreement.per_layer.tolist(),
        }
    return metrics
