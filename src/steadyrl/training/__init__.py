"""The training loop, its queue of rollouts, checkpoints and the journal."""

from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.loop import train, train_step
from steadyrl.training.rollout_queue import RolloutQueue
from steadyrl.training.sampler import LocalSampler, Sampler
from steadyrl.training.stage import RunPosition, Stage

__all__ = [
    "Checkpointer",
    "Journal",
    "JournalSettings",
    "LocalSampler",
    "RolloutQueue",
    "RunPosition",
    "Sampler",
    "Stage",
    "train",
    "train_step",
]
