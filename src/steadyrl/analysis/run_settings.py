"""The settings of a run that a diagnosis uses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS = 3
"""Updates of a rollout under `updates: sequential`: attempts, reflections and what follows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The settings that causes and remedies speak of, with what holds if nothing is known."""

    mini_batches: int = 1
    """Optimizer steps for each rollout."""

    sequential: bool = False
    """Whether optimizer steps go through the parts of Experiential RL in sequence."""

    max_staleness: int = 0
    """Number of steps by which rollouts are sampled ahead of the updates."""

    learning_rate: float | None = None
    routing_replay: str = "none"
    numerics: str = "bfloat16"

    objective: str = "minirl"

    importance_weights: bool = True
    """Whether tokens are weighted by the trainer's over the engine's probability."""

    clips: bool = True
    """Whether the objective stops tokens that have moved far."""

    every_token_measured: bool = True
    """False: metrics are those of rows whose group has signal, and which do depends on them."""

    one_update: bool = False
    """Whether it is known that a rollout gets one optimizer step, so that nothing is stale within
    it."""

    partial_log: bool = False
    """Whether the log may lack metrics that runs of this package have, so that silence proves
    nothing."""

    @property
    def fewer_steps(self) -> str:
        """Advice for taking fewer optimizer steps."""
        if self.sequential:
            return "set algorithm.updates to 'mixed'"
        return f"lower algorithm.mini_batches (now {self.mini_batches})"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "RunSettings":
        """The settings in a configuration as its YAML file holds it; defaults for what it omits."""
        algorithm, engine = _block(config, "algorithm"), _block(config, "engine")
        objective = _block(algorithm, "objective")
        rate = _block(config, "optimizer").get("learning_rate")
        sequential = algorithm.get("updates") == "sequential"
        bounds = [objective.get(name) for name in ("clip_low", "clip_high", "threshold")]
        return cls(
            mini_batches=PARTS if sequential else algorithm.get("mini_batches", 1),
            sequential=sequential,
            max_staleness=_steps_ahead(engine),
            learning_rate=None if rate is None else float(rate),  # YAML reads 1e-05 as a text
            routing_replay=config.get("routing_replay", "none"),
            numerics=engine.get("numerics", "bfloat16"),
            objective=objective.get("name", "minirl"),
            importance_weights=_weighs(algorithm, objective),
            clips=any(map(_is_finite, bounds)),
            every_token_measured=_block(config, "learner").get("measure_skipped", True),
        )


def _weighs(algorithm: Mapping[str, Any], objective: Mapping[str, Any]) -> bool:
    """Whether the objective or its correction weighs tokens; True if neither is known."""
    if not objective:
        return True
    corrected = _block(algorithm, "correction").get("name", "none") != "none"
    own = objective.get("name") in ("minirl", "dppo") and objective.get("correct_mismatch", True)
    return bool(own or corrected)


def _block(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = values.get(name)
    return block if isinstance(block, dict) else {}


def _steps_ahead(engine: Mapping[str, Any]) -> int:
    """`max_staleness` of an engine; none: 1 with overlap, otherwise 0."""
    ahead = engine.get("max_staleness")
    return int(engine.get("overlap", False) if ahead is None else ahead)


def _is_finite(bound: Any) -> bool:
    """Whether a bound is on; an objective from outside may have other values under its name."""
    try:
        return math.isfinite(float(bound))
    except (TypeError, ValueError):
        return False
