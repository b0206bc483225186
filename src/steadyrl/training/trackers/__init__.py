"""Trackers: what receives the metrics and notes of a run."""

from steadyrl.training.trackers.jsonl import JsonlSettings
from steadyrl.training.trackers.mlflow import MlflowSettings
from steadyrl.training.trackers.protocol import TrackedRun, Tracker, TrackerSettings, flat
from steadyrl.training.trackers.registry import AnyTracker
from steadyrl.training.trackers.tensorboard import TensorBoardSettings
from steadyrl.training.trackers.trackio import TrackioSettings
from steadyrl.training.trackers.wandb import WandbSettings

__all__ = [
    "AnyTracker",
    "JsonlSettings",
    "MlflowSettings",
    "TensorBoardSettings",
    "TrackedRun",
    "Tracker",
    "TrackerSettings",
    "TrackioSettings",
    "WandbSettings",
    "flat",
]
