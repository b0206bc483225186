"""Whose routing a batch is given."""

from dataclasses import replace

import pytest
import torch

from steadyrl.learners.replay import records_routing, routing_to_replay
from steadyrl.records.routing import Routing, RoutingReplay, join_routing
from steadyrl.records.token_batch import TokenBatch
from tests.learners.small import made_up_batch

NONE, R2, R3 = RoutingReplay.NONE, RoutingReplay.R2, RoutingReplay.R3


def routing_of(batch: TokenBatch, first: int) -> Routing:
    """Experts that say where they come from: `first`, `first` + 1, ... along each row."""
    rows, length = batch.tokens.shape
    experts = first + torch.arange(length).expand(rows, -1)
    experts = experts[:, :, None, None].expand(-1, -1, 2, 2).to(torch.uint8)
    return Routing.of(experts, batch.attention_mask, batch.tokens)


SAMPLED = made_up_batch()
OLD, ENGINE = routing_of(SAMPLED, 0), routing_of(SAMPLED, 100)
ROUTED = replace(SAMPLED, old_routing=OLD, rollout_routing=ENGINE)
REPROMPTED = replace(SAMPLED, old_routing=OLD, reprompted=True)
DEMONSTRATED = replace(SAMPLED, rollout_logprobs=None)


@pytest.mark.parametrize(
    ("replay", "batch", "expected"),
    [
        (NONE, ROUTED, None),
        (R2, ROUTED, OLD),
        (R3, ROUTED, ENGINE),
        (NONE, REPROMPTED, None),
        (R2, REPROMPTED, OLD),
        (R3, REPROMPTED, OLD),
        (R3, replace(REPROMPTED, old_routing=None), None),
        (R2, DEMONSTRATED, None),
        (R3, DEMONSTRATED, None),
    ],
)
def test_every_row_replays_routes_of_its_own_prompt(
    replay: RoutingReplay, batch: TokenBatch, expected: Routing | None
) -> None:
    assert routing_to_replay(replay, batch) is expected


@pytest.mark.parametrize(
    ("replay", "sampled", "reprompted"), [(NONE, False, False), (R2, True, True), (R3, False, True)]
)
def test_scoring_records_what_no_engine_has(
    replay: RoutingReplay, sampled: bool, reprompted: bool
) -> None:
    assert records_routing(replay, ROUTED) is sampled
    assert records_routing(replay, REPROMPTED) is reprompted


def test_r3_without_the_engine_s_routes_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"the engine recorded none for these tokens. Let the"):
        routing_to_replay(R3, SAMPLED)


def test_micro_batches_are_put_back_in_their_rows() -> None:
    parts = []
    for index in (torch.tensor([3, 1]), torch.tensor([0, 4, 2])):
        micro = SAMPLED.rows(index)
        parts.append((index, OLD.rows(index, micro.tokens.shape[1])))
    whole = join_routing(parts, SAMPLED.tokens.shape[1])
    real = SAMPLED.attention_mask
    assert torch.equal(whole.at(real), OLD.at(real))
    assert torch.equal(whole.known, real)
    assert torch.equal(whole.fed_tokens, OLD.fed_tokens)
