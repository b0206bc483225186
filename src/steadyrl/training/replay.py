"""Routing replay applies to every row, each under its own prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from steadyrl.records.routing import Routing, RoutingReplay
from steadyrl.records.token_batch import TokenBatch


def records_routing(replay: RoutingReplay, batch: TokenBatch) -> bool:
    """Whether the trainer's own choices under the old weights will be replayed on `batch`.

    Under R3 that is so for reprompted rows: the engine has no routes for the prompt they stand
    under.
    """
    return replay is RoutingReplay.R2 or (replay is RoutingReplay.R3 and batch.reprompted)


def routing_to_replay(replay: RoutingReplay, batch: TokenBatch) -> Routing | None:
    """The expert choices that a pass over `batch` uses; None where they are the trainer's, live.

    Live is right for what is replayed from old weights, and has not been scored: such a pass runs
    at the old weights.

    Raises:
        RuntimeError: the engine's are to be replayed and it recorded none.
    """
    if replay is RoutingReplay.NONE:
        return None
    if records_routing(replay, batch):
        return batch.old_routing
    if batch.rollout_logprobs is not None and batch.rollout_routing is None:
        raise RuntimeError(
            "R3 replays the engine's routing, but the engine recorded none for these tokens. "
            "Let the engine record routing, or set routing_replay to 'none' or 'r2'."
        )
    return batch.rollout_routing


def assembled(parts: Sequence[tuple[Tensor, Routing]], batch: TokenBatch) -> Routing:
    """The routing of the rows of `batch`, from the rows and the routing of its micro-batches."""
    _, first = parts[0]
    experts = first.experts.new_zeros(*batch.tokens.shape, *first.experts.shape[2:])
    known = torch.zeros(batch.tokens.shape, dtype=torch.bool)
    fed_tokens = torch.zeros(len(batch), dtype=torch.long)
    for index, part in parts:
        length = part.known.shape[1]
        experts[index, :length] = part.experts
        known[index, :length] = part.known
        fed_tokens[index] = part.fed_tokens
    return Routing(experts=experts, known=known, fed_tokens=fed_tokens)
