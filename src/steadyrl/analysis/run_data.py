"""What a run folder says, as series that can be drawn."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder

STAGE_TITLES = {"cold_start": "Cold start", "rl": "Reinforcement learning"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric over the `S` steps that recorded it.

    Example:
        Series(name="reward", steps=np.array([1, 2]), values=np.array([0.25, 0.5]))
    """

    name: str
    steps: Int[np.ndarray, " S"]
    values: Float[np.ndarray, " S"]

    @property
    def finite(self) -> Bool[np.ndarray, " S"]:
        """Which values are numbers that can be drawn."""
        finite: np.ndarray = np.isfinite(self.values)
        return finite

    def at(self, index: Bool[np.ndarray, " S"]) -> "Series":
        """The part of the series that `index` selects."""
        return Series(name=self.name, steps=self.steps[index], values=self.values[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSeries:
    """One metric over the `S` steps that recorded it, with a value for each of `L` layers."""

    name: str
    steps: Int[np.ndarray, " S"]

    values: Float[np.ndarray, "S L"]
    """NaN where a step recorded fewer layers than another."""

    @property
    def finite(self) -> Bool[np.ndarray, "S L"]:
        """Which values are numbers that can be drawn."""
        finite: np.ndarray = np.isfinite(self.values)
        return finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run, such as the cold start or reinforcement learning."""

    name: str

    last_step: int
    """Step 0 is before training, so this many steps have finished."""

    metrics: dict[str, Series | LayerSeries]
    """In the order in which the run first recorded them."""

    @property
    def title(self) -> str:
        """The stage's name for a reader."""
        return STAGE_TITLES.get(self.name, self.name.replace("_", " ").capitalize())

    def series(self, name: str) -> Series | None:
        """The metric `name`, if it was recorded as one value a step."""
        metric = self.metrics.get(name)
        return metric if isinstance(metric, Series) else None

    def at(self, steps: Int[np.ndarray, " K"]) -> "Stage":
        """The stage as if it had recorded nothing but these steps, and no layers."""
        metrics: dict[str, Series | LayerSeries] = {
            name: series.at(np.isin(series.steps, steps))
            for name, series in self.metrics.items()
            if isinstance(series, Series)
        }
        return replace(self, metrics=metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything a report says about a run, but its completions."""

    name: str

    config: str
    """The resolved configuration, as written."""

    manifest: dict[str, Any]
    """Versions, commit, machine, command line. Empty when the run left none."""

    stages: tuple[Stage, ...]
    """In the order in which they ran."""

    notes: tuple[str, ...] = ()
    """What the run decided by itself, and why."""


def finite(stage: Stage, metric: str) -> Series | None:
    """A metric where it is a number; None where it never was."""
    series = stage.series(metric)
    return series.at(series.finite) if series is not None and series.finite.any() else None


def ends(values: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """The mean of the first tenth and of the last tenth of `values`."""
    tenth = max(1, len(values) // 10)
    return float(values[:tenth].mean()), float(values[-tenth:].mean())


def read_run(folder: RunFolder) -> RunData:
    """What `folder` holds so far.

    Raises:
        UserError: it is not a run folder, has no metrics yet, or holds a file that cannot be read.
    """
    if not folder.config.is_file():
        raise UserError(
            f"{folder.path} is not a run folder: it has no {folder.config.name}. "
            "Give the folder that a run wrote."
        )
    rows = folder.read_metrics()
    if not rows:
        raise UserError(
            f"There are no metrics yet in {folder.path}: {folder.metrics.name} has no finished "
            "step. Wait until the run has finished its first step, then report again."
        )
    return RunData(
        name=folder.path.resolve().name,
        config=folder.config.read_text(encoding="utf-8"),
        manifest=_read_manifest(folder),
        stages=_stages(folder, rows),
        notes=tuple(f"From step {note['step']} on. {note['note']}" for note in folder.read_notes()),
    )


def _read_manifest(folder: RunFolder) -> dict[str, Any]:
    if not folder.manifest.is_file():
        return {}
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{folder.manifest} is not JSON ({error.msg}). Correct it or remove it."
        ) from error
    if not isinstance(manifest, dict):
        raise UserError(
            f"{folder.manifest} must hold an object, got {type(manifest).__name__}. "
            "Correct it or remove it."
        )
    return manifest


def _stages(folder: RunFolder, rows: list[dict[str, Any]]) -> tuple[Stage, ...]:
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("stage"), str) or not isinstance(row.get("step"), int):
            raise UserError(
                f"Row {number} of {folder.metrics} names no stage and step, got "
                f"stage={row.get('stage')!r} and step={row.get('step')!r}. "
                "Add them, or remove that row."
            )
        by_stage.setdefault(row["stage"], []).append(row)
    return tuple(_stage(name, stage_rows) for name, stage_rows in by_stage.items())


def _stage(name: str, rows: list[dict[str, Any]]) -> Stage:
    recorded: dict[str, list[tuple[int, Any]]] = {}
    for row in rows:
        for key, value in row.items():
            if key not in ("stage", "step") and _is_drawable(value):
                recorded.setdefault(key, []).append((row["step"], value))
    return Stage(
        name=name,
        last_step=max(row["step"] for row in rows),
        metrics={key: _metric(key, points) for key, points in recorded.items()},
    )


def _is_drawable(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list) and len(value) > 0)


def _metric(name: str, points: list[tuple[int, Any]]) -> Series | LayerSeries:
    steps = np.array([step for step, _ in points], dtype=np.int64)
    values = [value for _, value in points]
    if not any(isinstance(value, list) for value in values):
        return Series(name=name, steps=steps, values=np.array(values, dtype=np.float64))
    layers = [value if isinstance(value, list) else [value] for value in values]
    table = np.full((len(layers), max(len(row) for row in layers)), np.nan)
    for index, row in enumerate(layers):
        table[index, : len(row)] = [np.nan if value is None else value for value in row]
    return LayerSeries(name=name, steps=steps, values=table)
