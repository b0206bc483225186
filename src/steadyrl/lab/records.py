"""Records of finished runs: configuration, curves, and provenance.

results/runs/*.json hold one run each, whichever studies it belongs to, so a run that two figures
share is run once. A run is found by its configuration (see `configurations`), not by the name of
its file.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from steadyrl.base.errors import UserError
from steadyrl.lab.configurations import CHANGES, Change, from_stored, identity, to_stored
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.config import RunConfig

CURVES = (
    "reward",
    "mismatch_kl_k3",
    "extreme_token_fraction",
    "routing_disagreement",
    "staleness_kl_k3",
    "rollout_staleness_kl_k3",
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
"""Metrics whose curves are stored, as means over bins of gradient steps."""

BIN = 8
"""Gradient steps in a bin. A rollout of more steps fills several bins with the same values."""

DIGITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One finished run."""

    digest: str
    """The name of its file and its folder."""

    seed: int
    commit: str | None
    machine: str
    seconds: float
    """Seconds of its steps, without evaluations."""

    gradient_steps: int
    """Number of gradient steps that the run was configured to take."""

    failure: str | None
    """Why it stopped before its last step: the loss or the gradient was not finite."""

    scores: list[tuple[int, float]]
    """(gradient steps taken, held-out score)."""

    curves: dict[str, list[float | None]]
    """One value a bin, None where none of its steps has the metric. A run that failed has fewer
    bins."""

    cold_start: str | None = None
    """The `weights_digest` after its cold start. None without a cold start, and in records older
    than this field."""

    configuration: dict[str, Any]
    """Every setting of the run, as the code that ran it names them. `config` reads it."""

    changes: int
    """Number of `configurations.CHANGES` that the configuration already follows."""

    @property
    def config(self) -> RunConfig:
        """The configuration as today's code reads it.

        Raises:
            UserError: today's code does not know its settings.
        """
        return from_stored(self.configuration, self.changes, f"the run {self.digest}")

    def curve(self, name: str) -> Float[np.ndarray, " S"]:
        """The curve of a metric, nan where it has no value; empty if it was not recorded."""
        return np.array(self.curves.get(name, []), dtype=np.float64)

    def bin_centers(self, count: int) -> Float[np.ndarray, " S"]:
        """Gradient steps at the middle of each of the first `count` bins."""
        return (np.arange(count) + 0.5) * min(BIN, self.gradient_steps)


def digest_of(config: RunConfig) -> str:
    """A name for the files of the run that `config` describes."""
    return hashlib.sha256(identity(config).encode()).hexdigest()[:16]


def find_records(folder: Path, changes: Sequence[Change] = CHANGES) -> dict[str, Path]:
    """The record of every run in `folder`, by the `identity` of its configuration.

    Raises:
        UserError: a file is not a record, or today's code does not know its settings.
    """
    return {
        _identity_of(path, path.stat().st_mtime_ns, tuple(changes)): path
        for path in sorted(folder.glob("*.json"))
    }


@cache
def _identity_of(path: Path, _modified: int, changes: tuple[Change, ...]) -> str:
    """The identity of the run in `path`. Records do not change, so each is read once."""
    record = read_record(path)
    try:
        return identity(from_stored(record.configuration, record.changes, str(path), changes))
    except UserError as error:
        raise UserError(
            f"{error} It was written by another version of steadyrl: list what became of its "
            "settings in steadyrl.lab.configurations.CHANGES, or move the file elsewhere, and "
            "the run is made again."
        ) from error


def record_of(
    folder: RunFolder,
    config: RunConfig,
    *,
    failure: str | None = None,
    cold_start: str | None = None,
) -> RunRecord:
    """The record of the run that `config` describes, from `folder`."""
    rows = [row for row in folder.read_metrics() if row["stage"] == "rl"]
    mini_batches = config.algorithm.gradient_steps
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
            name: _binned(
                [row.get(name) for row in steps for _ in range(max(1, mini_batches // BIN))],
                BIN // mini_batches,
            )
            for name in CURVES
            if any(name in row for row in steps)
        },
        cold_start=cold_start,
        configuration=to_stored(config),
        changes=len(CHANGES),
    )


def write_record(record: RunRecord, path: Path) -> None:
    """Writes `record` atomically."""
    write_atomically(path, json.dumps(asdict(record)) + "\n")


def read_record(path: Path) -> RunRecord:
    """The run in `path`.

    Raises:
        UserError: the file is not a record of a run, or lacks the run's configuration.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["scores"] = [tuple(score) for score in values["scores"]]
        if "configuration" in values or "digest" not in values:
            return RunRecord(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a record of a run: {error}. Remove it, and the run is made again."
        ) from error
    raise UserError(
        f"{path} holds a run without its configuration, as older versions of steadyrl wrote it. "
        "Add it with 'python benchmarks/recorded_configurations.py', or move the file elsewhere, "
        "and the run is made again."
    )


def _binned(values: list[float | None], size: int) -> list[float | None]:
    """Means of `size` values in a row, without those that are missing; the last may be of fewer."""
    size = max(1, size)
    bins = [values[start : start + size] for start in range(0, len(values), size)]
    return [_mean([value for value in taken if value is not None]) for taken in bins]


def _mean(values: list[float]) -> float | None:
    return float(f"{np.mean(values):.{DIGITS}g}") if values else None
