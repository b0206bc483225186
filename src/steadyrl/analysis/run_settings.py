"""What a diagnosis needs to know of a run's configuration."""

import math
from dataclasses import dataclass
from typing import Any

import yaml

from steadyrl.base.errors import UserError

PARTS = 3
"""Updates of a rollout under `updates: sequential`: attempts, reflections and what follows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings that causes and remedies speak of. Defaults where a configuration is silent."""

    mini_batches: int = 1
    """Optimiser steps for each rollout."""

    sequential: bool = False
    """Whether the optimiser steps are those of the parts of Experiential RL, one after another."""

    overlap: bool = False
    """Whether a rollout's weights are one rollout older than those that its update begins with."""

    learning_rate: float | None = None
    routing_replay: str = "none"
    numerics: str = "bfloat16"

    objective: str = "minirl"

    clips: bool = True
    """Whether the objective stops tokens that have moved far."""

    every_token_measured: bool = True
    """False: metrics speak only of rows whose group has signal, and which do depends on them."""

    @property
    def fewer_steps(self) -> str:
        """How to have fewer optimiser steps, in words."""
        if self.sequential:
            return "set algorithm.updates to 'mixed'"
        return f"lower algorithm.mini_batches (now {self.mini_batches})"


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
    objective = _found(values, "algorithm.objective", {})
    mini_batches = _found(values, "algorithm.mini_batches", default.mini_batches)
    sequential = _found(values, "algorithm.updates", "mixed") == "sequential"
    rate = _found(values, "optimizer.learning_rate", default.learning_rate)
    return RunSettings(
        mini_batches=PARTS if sequential else mini_batches,
        sequential=sequential,
        overlap=_found(values, "engine.overlap", default.overlap),
        learning_rate=None if rate is None else float(rate),  # YAML reads 1e-05 as a text
        routing_replay=_found(values, "routing_replay", default.routing_replay),
        numerics=_found(values, "engine.numerics", default.numerics),
        objective=_found(values, "algorithm.objective.name", default.objective),
        clips=any(
            _is_finite(objective.get(name)) for name in ("clip_low", "clip_high", "threshold")
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


def _is_finite(bound: Any) -> bool:
    """Whether a bound is on; an objective from outside may have other values under its name."""
    try:
        return math.isfinite(float(bound))
    except (TypeError, ValueError):
        return False
