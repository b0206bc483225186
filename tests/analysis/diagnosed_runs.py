"""Runs to diagnose, from the values of their metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from steadyrl.analysis.diagnosis import Diagnosis, diagnose
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Series, Stage


def stage(name: str = "rl", **metrics: Sequence[float]) -> Stage:
    """A stage with the given values at steps 1, 2, 3, ..."""
    series = {
        metric: Series(
            name=metric,
            steps=np.arange(1, len(values) + 1),
            values=np.array(values, dtype=np.float64),
        )
        for metric, values in metrics.items()
    }
    return Stage(name=name, last_step=max(map(len, metrics.values())), metrics=series)


def diagnosis(*stages: Stage, **settings: Any) -> Diagnosis:
    """The diagnosis of a run of `stages`."""
    return diagnose(stages, RunSettings(**settings))


SOUND = {
    "reward": [0.30, 0.34, 0.31, 0.36, 0.35, 0.40, 0.42, 0.45],
    "entropy": [0.40, 0.39, 0.38, 0.37, 0.35, 0.33, 0.32, 0.30],
    "mismatch_kl_k1": [0.002, 0.001, 0.003, 0.002, 0.001, 0.002, 0.003, 0.002],
    "mismatch_kl_k3": [0.002, 0.0015, 0.0025, 0.002, 0.0016, 0.003, 0.002, 0.0021],
    "extreme_token_fraction": [0.001, 0.0, 0.002, 0.001, 0.001, 0.002, 0.001, 0.001],
    "ess": [0.99, 0.99, 0.98, 0.99, 0.99, 0.97, 0.99, 0.98],
    "staleness_kl_k3": [0.0] * 8,
    "gradient_norm": [4.0, 5.0, 4.5, 6.0, 5.0, 7.0, 6.0, 8.0],
    "surprisal_gap": [0.003, -0.01, 0.008, -0.002, 0.01, 0.0, -0.006, 0.004],
    "surprisal_gap_z": [0.3, -1.0, 0.8, -0.2, 1.0, 0.0, -0.6, 0.4],
    "temperature_ratio": [1.0, 1.01, 0.99, 1.0, 1.01, 1.0, 1.0, 1.01],
    "temperature_share": [0.0, 0.01, 0.0, 0.02, 0.01, 0.0, 0.0, 0.01],
    "routing_disagreement": [0.02, 0.021, 0.019, 0.02, 0.022, 0.02, 0.021, 0.02],
    "environment_failed_fraction": [0.0] * 8,
    "update_reached_fraction": [1.0] * 8,
    "engine_update_reached_fraction": [1.0, 0.99, 1.01, 1.0, 0.98, 1.02, 1.0, 1.0],
    "no_signal_fraction": [0.4, 0.5, 0.4, 0.5, 0.5, 0.6, 0.6, 0.7],
}
"""Eight steps of a run that learns."""


def sound(**changes: Sequence[float]) -> Stage:
    """A sound stage, but for `changes`."""
    return stage(**{**SOUND, **changes})
