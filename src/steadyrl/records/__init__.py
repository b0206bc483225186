"""Frozen records that components exchange. They do not depend on models, rewards or losses."""

from typing import TYPE_CHECKING

from steadyrl.base.lazy_exports import lazy_exports
from steadyrl.records.message import Conversation, Message
from steadyrl.records.run_folder import RunFolder

if TYPE_CHECKING:
    from steadyrl.records.completion import Completion, FinishReason
    from steadyrl.records.routing import Routing, RoutingReplay
    from steadyrl.records.token_batch import TokenBatch
    from steadyrl.records.trajectory import Group, Trajectory
    from steadyrl.records.weight_source import (
        AdapterSource,
        AdapterWeights,
        StateDictWeights,
        WeightSource,
    )

__all__ = [
    "AdapterSource",
    "AdapterWeights",
    "Completion",
    "Conversation",
    "FinishReason",
    "Group",
    "Message",
    "Routing",
    "RoutingReplay",
    "RunFolder",
    "StateDictWeights",
    "TokenBatch",
    "Trajectory",
    "WeightSource",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Completion": "completion",
        "FinishReason": "completion",
        "Routing": "routing",
        "RoutingReplay": "routing",
        "TokenBatch": "token_batch",
        "Group": "trajectory",
        "Trajectory": "trajectory",
        "AdapterSource": "weight_source",
        "AdapterWeights": "weight_source",
        "StateDictWeights": "weight_source",
        "WeightSource": "weight_source",
    },
)
