"""What is kept of a finished run: its curves, and where they come from.

results/runs/<digest>.json holds one run, whichever studies it belongs to. The digest is of the
configuration alone, so a run that two figures share is run once.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.records.errors import UserError
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.config import RunConfig

CURVES = (
    "reward",
    "mismatch_kl_k3",
    "extreme_token_fraction",
    "routing_disagreement",
    "staleness_kl_k3",
    "ess",
    "entropy",
    "gradient_norm",
    "response_length",
    "no_signal_fraction",
    "reward_reflected",
    "reward_after_reflection",
    "reflection_fraction",
    "seconds",
)
"""Metrics whose course is kept, as means over bins of gradient steps."""

BIN = 8
"""Gradient steps in a bin: a multiple of every number of mini-batches that is studied."""

DIGITS = 5

ADDED_LATER = {
    "cold_start.teacher.half_plain": "0.0",
    "environment.judge_workers": "None",
    "environment.judge_memory": "8.0",
}
"""Settings of what the default configuration does not have, with the value that changes nothing.
Runs were recorded before there were these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One finished run."""

    digest: str
    seed: int
    commit: str | None
    machine: str
    seconds: float
    """Time of its steps, without evaluations."""

    gradient_steps: int
    """As many as it was to take."""

    failure: str | None
    """Why it stopped before its last step: the loss or the gradient was not finite."""

    scores: list[tuple[int, float]]
    """(gradient steps taken, held-out score)."""

    curves: dict[str, list[float | None]]
    """One value a bin, None where none of its steps has the metric. A run that failed has fewer
    bins."""

    cold_start: str | None = None
    """The `weights_digest` of what its cold start left. None where there was none, and in records
    older than this field."""

    def curve(self, name: str) -> Float[np.ndarray, " S"]:
        """The course of a metric, nan where it has no value; empty where it was not recorded."""
        return np.array(self.curves.get(name, []), dtype=np.float64)

    def bin_centres(self, count: int) -> Float[np.ndarray, " S"]:
        """Gradient steps at the middle of each of the first `count` bins."""
        return (np.arange(count) + 0.5) * min(BIN, self.gradient_steps)


def digest_of(config: RunConfig) -> str:
    """A name for the run that `config` describes.

    It depends on what differs from the defaults, so a setting that is added later, with a default
    that changes nothing, leaves the names of finished runs as they are.
    """
    default = _flat(RunConfig(environment=ArithmeticSettings()).model_dump(mode="json"))
    default |= ADDED_LATER
    own = _flat(config.model_dump(mode="json"))
    if config.erl is not None:
        default |= _flat({"erl": ExperientialSettings().model_dump(mode="json")})
        own["erl"] = "set"
    differing = sorted((k, v) for k, v in own.items() if k not in default or default[k] != v)
    return hashlib.sha256(json.dumps(differing).encode()).hexdigest()[:16]


def record_of(
    folder: RunFolder,
    config: RunConfig,
    *,
    failure: str | None = None,
    cold_start: str | None = None,
) -> RunRecord:
    """What `folder` says about the run that `config` describes."""
    rows = [row for row in folder.read_metrics() if row["stage"] == "rl"]
    mini_batches = config.gradient_steps
    steps = [row for row in rows if "reward" in row]
    manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    return RunRecord(
        digest=digest_of(config),
        seed=config.seed,
        commit=manifest["commit"],
        machine=manifest["machine"],
        seconds=round(sum((row["seconds"] for row in steps), 0.0), 1),
        gradient_steps=config.steps * mini_batches,
        failure=failure,
        scores=[
            (row["step"] * mini_batches, round(row["score"], DIGITS))
            for row in rows
            if "score" in row
        ],
        curves={
            name: _binned([row.get(name) for row in steps], BIN // mini_batches)
            for name in CURVES
            if any(name in row for row in steps)
        },
        cold_start=cold_start,
    )


def write_record(record: RunRecord, path: Path) -> None:
    """Writes `record`, all or nothing."""
    write_atomically(path, json.dumps(asdict(record)) + "\n")


def read_record(path: Path) -> RunRecord:
    """The run in `path`.

    Raises:
        UserError: the file is no record of a run.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["scores"] = [tuple(score) for score in values["scores"]]
        return RunRecord(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no record of a run: {error}. Remove it, and it will be run again."
        ) from error


def _binned(values: list[float | None], size: int) -> list[float | None]:
    """Means of `size` values in a row, without those that are missing; the last may be of fewer."""
    size = max(1, size)
    bins = [values[start : start + size] for start in range(0, len(values), size)]
    return [_mean([value for value in taken if value is not None]) for taken in bins]


def _mean(values: list[float]) -> float | None:
    return float(f"{np.mean(values):.{DIGITS}g}") if values else None


def _flat(values: dict[str, Any], place: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{place}{name}.")
        else:
            flat[place + name] = str(value)
    return flat
