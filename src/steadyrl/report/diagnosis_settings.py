"""What a diagnosis needs to know of a run's configuration."""

import math
from dataclasses import dataclass
from typing import Any

import yaml

from steadyrl.records.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings that causes and remedies speak of. Defaults where a configuration is silent."""

    mini_batches: int = 1
    """Optimiser steps for each rollout."""

    learning_rate: float | None = None
    routing_replay: str = "none"
    numerics: str = "bfloat16"

    clips: bool = True
    """Whether the objective stops tokens that have moved far."""

    every_token_measured: bool = True
    """False: metrics speak only of rows whose group has signal, and which do depends on them."""


def run_settings(config: str) -> RunSettings:
    """The settings in the text of a `config.yaml`.

    Raises:
        UserError: it is not YAML, or holds no settings.
    """
    try:
        values = yaml.safe_load(config)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"The run's config.yaml is not YAML: {reason}. Restore the file that the run wrote."
        ) from error
    if not isinstance(values, dict):
        raise UserError(
            f"The run's config.yaml must hold settings by name, got {type(values).__name__}. "
            "Restore the file that the run wrote."
        )
    default = RunSettings()
    objective = _found(values, "policy_gradient.objective", {})
    return RunSettings(
        mini_batches=_found(values, "policy_gradient.mini_batches", default.mini_batches),
        learning_rate=_found(values, "optimizer.learning_rate", default.learning_rate),
        routing_replay=_found(values, "routing_replay", default.routing_replay),
        numerics=_found(values, "engine.numerics", default.numerics),
        clips=any(
            math.isfinite(float(objective.get(name, math.inf)))
            for name in ("clip_low", "clip_high", "threshold")
        ),
        every_token_measured=_found(
            values, "learner.measure_skipped", default.every_token_measured
        ),
    )


def _found(values: dict[str, Any], place: str, default: Any) -> Any:
    """The setting at `place`, its names joined by dots; `default` where there is none."""
    found: Any = values
    for name in place.split("."):
        if not isinstance(found, dict) or name not in found:
            return default
        found = found[name]
    return found
