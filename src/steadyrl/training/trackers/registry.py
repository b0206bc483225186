"""The trackers that a configuration may name."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.training.trackers.jsonl import JsonlSettings
from steadyrl.training.trackers.mlflow import MlflowSettings
from steadyrl.training.trackers.protocol import TrackerSettings
from steadyrl.training.trackers.tensorboard import TensorBoardSettings
from steadyrl.training.trackers.trackio import TrackioSettings
from steadyrl.training.trackers.wandb import WandbSettings

AnyTracker = Annotated[
    TrackerSettings,
    Variants(
        TrackerSettings,
        "steadyrl.trackers",
        JsonlSettings,
        TensorBoardSettings,
        WandbSettings,
        TrackioSettings,
        MlflowSettings,
    ),
]
"""One of these, one that another package registers, or a class of settings as `module:Class`."""
