"""Per-token measurements of one training step, and the metrics computed from them."""

from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.diagnostics import (
    clip_diagnostics,
    mismatch_diagnostics,
    reference_diagnostics,
    sampling_diagnostics,
    staleness_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)
from steadyrl.objectives.disagreement import RoutingDisagreement
from steadyrl.objectives.terms import TokenTerms


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
    def of(
        cls,
        terms: TokenTerms,
        entropy: Float[Tensor, "B T"],
        masks: ClipMasks,
        routing: RoutingDisagreement | None,
        *,
        sampled: bool = True,
    ) -> "TokenMeasurements":
        """The loss tokens of `terms`.

        Args:
            sampled: Whether an engine sampled the tokens.
        """

        def chosen(values: Shaped[Tensor, "B T"]) -> Shaped[Tensor, " N"]:
            return values.detach()[terms.loss_mask].cpu()

        return cls(
            logprobs=chosen(terms.logprobs),
            old_logprobs=chosen(terms.old_logprobs),
            rollout_logprobs=chosen(terms.rollout_logprobs) if sampled else None,
            entropy=chosen(entropy),
            ref_logprobs=None if terms.ref_logprobs is None else chosen(terms.ref_logprobs),
            **{
                field.name: None if (met := getattr(masks, field.name)) is None else chosen(met)
                for field in fields(masks)
            },
            routing=routing,
        )

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
