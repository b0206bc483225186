"""Rollouts: episodes become groups, and groups become token batches."""

from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.seeds import derive_seed

__all__ = [
    "derive_seed",
    "play_groups",
    "token_batch",
]
