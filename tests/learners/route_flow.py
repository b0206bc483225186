"""A step's routes, from the engine's recorder to the metrics, without a model between."""

from dataclasses import replace

import torch
from torch import Tensor

from steadyrl.engines.route_recorder import BLOCK_BYTES, RouteRecorder
from steadyrl.learners.measurements import measured_tokens
from steadyrl.objectives import ClipMasks, RoutingDisagreement, TokenTerms
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing, join_routing
from steadyrl.records.token_batch import TokenBatch
from steadyrl.rollout.batching import token_batch
from tests.learners.small import group_of

LAYERS, CHOSEN, EXPERTS = 48, 8, 128
PROMPT = 8


def choices(tokens: Tensor) -> Tensor:
    """Experts for tokens, as a router would give them: in int64."""
    layers = torch.arange(LAYERS)[:, None] * 5
    return (tokens[..., None, None] + layers + torch.arange(CHOSEN)) % EXPERTS


def sampled(sequences: int, length: int, block_bytes: int) -> list[Completion]:
    """Answers whose routes were recorded step by step.."""
    tokens = torch.arange(sequences)[:, None] * 7 + torch.arange(length + 1)
    prompts = list(tokens[:, :PROMPT].clone().unbind())
    recorder = RouteRecorder(rows=sequences, dtype=torch.uint8, block_bytes=block_bytes)
    for row in range(sequences):
        recorder.begin([row], [0], [prompts[row]], choices(prompts[row][None]))
    for position in range(PROMPT, length):
        recorder.step(tokens[:, position], choices(tokens[:, position]))
    routings = recorder.take(recorder.numbers(range(sequences)))
    return [
        Completion(
            prompt_ids=prompt,
            token_ids=row[PROMPT:].clone(),
            logprobs=torch.zeros(length + 1 - PROMPT),
            finish_reason=FinishReason.STOP,
            policy_version=0,
            routing=routing,
        )
        for prompt, row, routing in zip(prompts, tokens, routings, strict=True)
    ]


def batch_of(completions: list[Completion]) -> TokenBatch:
    group = group_of([[completion] for completion in completions])
    return token_batch([group], [torch.ones(len(completions))], pad_token_id=0)


def measured(micro: TokenBatch, routing: Routing) -> TokenMeasurements:
    """What is measured on a micro-batch whose pass used `routing`."""
    zeros = torch.zeros(micro.tokens.shape)
    terms = TokenTerms(
        logprobs=zeros,
        old_logprobs=zeros,
        rollout_logprobs=zeros,
        advantages=micro.advantages,
        loss_mask=micro.loss_mask,
        response_ids=micro.response_ids,
    )
    scores = TokenScores(logprobs=zeros, entropy=zeros, routing=routing)
    return measured_tokens(micro, terms, scores, ClipMasks(), routing)


def flow(
    sequences: int, length: int, *, block_bytes: int = BLOCK_BYTES, record_old: bool = False
) -> RoutingDisagreement:
    """Sampled, batched, replayed one row at a time, and measured.

    Args:
        record_old: The trainer's own routes are recorded as well, as for R2.
    """
    completions = sampled(sequences, length, block_bytes)
    batch = batch_of(completions)
    assert batch.rollout_routing is not None
    if record_old:
        parts = []
        for row in torch.arange(sequences):
            micro = batch.rows(row[None])
            own = choices(micro.tokens + 1).to(torch.uint8)
            parts.append((row[None], Routing.of(own, micro.attention_mask, micro.tokens)))
        batch = replace(batch, old_routing=join_routing(parts, batch.tokens.shape[1]))
    found = []
    for row in torch.arange(sequences):
        micro = batch.rows(row[None])
        routing = micro.old_routing or micro.rollout_routing
        assert routing is not None
        replayed = routing.padded()
        assert replayed.experts.shape == (1, length + 1, LAYERS, CHOSEN)
        found.append(measured(micro, routing))
    whole = TokenMeasurements.join(found).routing
    assert whole is not None
    return whole
