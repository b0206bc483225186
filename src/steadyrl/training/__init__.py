"""The loop, checkpoints and the journal."""

from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.loop import train, train_step
from steadyrl.training.stage import RunPosition, Stage

__all__ = [
    "Checkpointer",
    "Journal",
    "JournalSettings",
    "RunPosition",
    "Stage",
    "train",
    "train_step",
]
