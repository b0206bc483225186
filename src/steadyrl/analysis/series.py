"""Metrics of a run as series over its steps, from rows of any origin.

{"step": 1, "reward": 0.25} -> stages_of -> Stage -> Series
{"step": 2, "reward": 0.5}
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from steadyrl.base.errors import UserError

COLD_START = "cold_start"
"""The stage of supervised learning before reinforcement."""

STAGE_TITLES = {COLD_START: "Cold start", "rl": "Reinforcement learning"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric over the `S` steps that recorded it.

    Example:
        Series(name="reward", steps=np.array([1, 2]), values=np.array([0.25, 0.5]))
    """

    name: str
    steps: Int[np.ndarray, " S"]

    values: Float[np.ndarray, "S *L"]
    """A number a step, or one for each of `L` layers, NaN where a step recorded fewer."""

    @property
    def finite(self) -> Bool[np.ndarray, "S *L"]:
        """Mask of finite values."""
        finite: np.ndarray = np.isfinite(self.values)
        return finite

    @property
    def has_layers(self) -> bool:
        """Whether there is a value for each layer."""
        return self.values.ndim == 2

    def at(self, index: Bool[np.ndarray, " S"]) -> "Series":
        """The part of the series that `index` selects."""
        return Series(name=self.name, steps=self.steps[index], values=self.values[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run, such as the cold start or reinforcement learning."""

    name: str

    last_step: int
    """Step 0 is before training, so this many steps have finished."""

    metrics: dict[str, Series]
    """In the order in which the run first recorded them."""

    task_scores: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """By step of each evaluation and by task: the mean reward of its episodes. May be empty."""

    @property
    def title(self) -> str:
        """The stage's name for a reader."""
        return STAGE_TITLES.get(self.name, self.name.replace("_", " ").capitalize())

    def series(self, name: str) -> Series | None:
        """The metric `name`, if it was recorded as one value a step."""
        metric = self.metrics.get(name)
        return None if metric is None or metric.has_layers else metric

    def finite(self, name: str) -> Series | None:
        """The metric `name` at the steps where it is finite; None if it never was."""
        series = self.series(name)
        return series.at(series.finite) if series is not None and series.finite.any() else None

    def at(self, steps: Int[np.ndarray, " K"]) -> "Stage":
        """The stage as if it had recorded nothing but these steps."""
        metrics = {
            name: series.at(np.isin(series.steps, steps)) for name, series in self.metrics.items()
        }
        return replace(self, metrics=metrics)


def stages_of(rows: Iterable[Mapping[str, Any]], origin: str = "the metrics") -> tuple[Stage, ...]:
    """The stages in `rows`, in the order in which they began.

    Args:
        rows: A mapping for each step: its `step`, its `stage` ("rl" if there is none), and its
            metrics, each a number or a list with a number for each layer. Other values are left
            out.
        origin: Where the rows come from, for error messages.

    Raises:
        UserError: a row has no step.
    """
    by_stage: dict[str, list[Mapping[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int):
            raise UserError(
                f"Row {number} of {origin} has no step, got step={row.get('step')!r}. "
                "Add it, or remove the row."
            )
        by_stage.setdefault(str(row.get("stage", "rl")), []).append(row)
    return tuple(_stage(name, stage_rows) for name, stage_rows in by_stage.items())


def reinforcement(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages that are not a cold start."""
    return tuple(stage for stage in stages if stage.name != COLD_START)


def ends(values: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """The mean of the first tenth and of the last tenth of `values`."""
    tenth = max(1, len(values) // 10)
    return float(values[:tenth].mean()), float(values[-tenth:].mean())


def _stage(name: str, rows: list[Mapping[str, Any]]) -> Stage:
    recorded: dict[str, list[tuple[int, Any]]] = {}
    for row in rows:
        for key, value in row.items():
            if key not in ("stage", "step") and _is_number_or_layers(value):
                recorded.setdefault(key, []).append((row["step"], value))
    return Stage(
        name=name,
        last_step=max(row["step"] for row in rows),
        metrics={key: _series(key, points) for key, points in recorded.items()},
    )


def _is_number_or_layers(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list) and len(value) > 0)


def _series(name: str, points: list[tuple[int, Any]]) -> Series:
    steps = np.array([step for step, _ in points], dtype=np.int64)
    values = [value for _, value in points]
    if not any(isinstance(value, list) for value in values):
        return Series(name=name, steps=steps, values=np.array(values, dtype=np.float64))
    layers = [value if isinstance(value, list) else [value] for value in values]
    table = np.full((len(layers), max(len(row) for row in layers)), np.nan)
    for index, row in enumerate(layers):
        table[index, : len(row)] = [np.nan if value is None else value for value in row]
    return Series(name=name, steps=steps, values=table)
