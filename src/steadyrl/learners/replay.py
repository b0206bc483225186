"""Selection of the routing that a forward pass replays."""

from steadyrl.records.routing import Routing, RoutingReplay
from steadyrl.records.token_batch import TokenBatch


def records_routing(replay: RoutingReplay, batch: TokenBatch) -> bool:
    """Whether updates on `batch` replay the trainer's routing under the old weights.

    Under R3 this holds for reprompted rows, since the engine has no routing for their new prompt.
    """
    return replay is RoutingReplay.R2 or (replay is RoutingReplay.R3 and batch.reprompted)


def routing_to_replay(replay: RoutingReplay, batch: TokenBatch) -> Routing | None:
    """The expert choices that a pass over `batch` replays; None: the trainer chooses live.

    Rows that replay the routing under the old weights and were not scored are routed live, since
    their pass runs at the old weights.

    Raises:
        RuntimeError: the engine's routing should be replayed, but it recorded none.
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
