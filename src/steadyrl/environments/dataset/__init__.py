"""Custom datasets: rows become tasks, and rewards are selected by name."""

from steadyrl.environments.dataset.environment import Dataset
from steadyrl.environments.dataset.examples import Example, InvalidRowError
from steadyrl.environments.dataset.rewards import Attempt, Reward, RewardResult, RewardSettings
from steadyrl.environments.dataset.settings import DatasetSettings

__all__ = [
    "Attempt",
    "Dataset",
    "DatasetSettings",
    "Example",
    "InvalidRowError",
    "Reward",
    "RewardResult",
    "RewardSettings",
]
