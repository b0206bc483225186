"""Measurements of the loss tokens of a micro-batch."""

import torch

from steadyrl.objectives import ClipMasks, RoutingDisagreement, TokenTerms, routing_disagreement
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.routing import Routing
from steadyrl.records.token_batch import TokenBatch


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
    return TokenMeasurements.of(
        terms,
        scores.entropy,
        masks,
        _disagreement(micro, routing),
        sampled=micro.rollout_logprobs is not None,
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
