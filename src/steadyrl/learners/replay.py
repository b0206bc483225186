"""Routing replay applies to every row, each under its own prompt."""

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
