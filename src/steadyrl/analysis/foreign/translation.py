"""Columns of another trainer as metrics of ours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from steadyrl.analysis.foreign.log import numbers_in
from steadyrl.analysis.foreign.trainers import MetricSource, Trainer
from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.base.errors import UserError

CONVERSIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "same": lambda values: float(np.mean(values)),
    "sum": lambda values: float(np.sum(values)),
    "magnitude": lambda values: abs(float(np.mean(values))),
    "half_square": lambda values: float(np.mean(values)) ** 2 / 2,
    "percent": lambda values: float(np.mean(values)) / 100,
    "rest_of_percent": lambda values: 1 - float(np.mean(values)) / 100,
}
"""By name, the value of a metric from those of its columns at a step."""

STEP = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedSource:
    """Where a metric comes from in one log."""

    columns: tuple[str, ...]
    instead: tuple[tuple[str, ...], ...] = ()
    """Columns of the same metric, for rows without these: other versions call it so."""

    convert: str = "same"
    approximate: str = ""


def parse_columns(given: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Our metric, or `step`, and its column, from `reward=train/reward` and the like.

    Args:
        given: The values of `--columns`; one may hold several, with commas between them.
        columns: Names in the log.

    Raises:
        UserError: one is not of that form, or names what is not there.
    """
    result = {}
    for pair in [part for value in given for part in value.split(",") if part]:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise UserError(
                f"--columns needs METRIC=COLUMN, such as reward=train/reward; got {pair!r}."
            )
        if ours != STEP and ours not in METRIC_TEXTS:
            near = get_close_matches(ours, METRIC_TEXTS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"There is no metric {ours!r}.{hint} docs/metrics.md has all of them.")
        if theirs not in columns:
            near = get_close_matches(theirs, columns, n=3, cutoff=0.3) or list(columns[:6])
            raise UserError(f"The log has no column {theirs!r}. It has {', '.join(near)}.")
        result[ours] = theirs
    return result


def sources_of(
    trainer: Trainer, columns: Sequence[str], mapped: Mapping[str, str], zero: set[str]
) -> dict[str, UsedSource]:
    """By our metric, the first source that the log has. Columns that the user mapped come first.

    Args:
        zero: Columns of nothing but zeros.
    """
    found = {ours: UsedSource(columns=(theirs,)) for ours, theirs in mapped.items() if ours != STEP}
    for metric, sources in trainer.sources.items():
        for source in sources:
            names = source.columns_in(columns)
            if metric in found or not names or (source.ignore_zero and zero.issuperset(names)):
                continue
            if "NAME" in metric:
                found |= {name: UsedSource(columns=(name,)) for name in names}
            else:
                others = [other.columns_in(columns) for other in sources if _alike(source, other)]
                found[metric] = _used(source, names, tuple(filter(None, others)))
    for name in MetricSource(names=trainer.also).columns_in(columns) if trainer.also else ():
        found.setdefault(name, UsedSource(columns=(name,)))
    return found


def _alike(source: MetricSource, other: MetricSource) -> bool:
    """Whether the columns of `other` hold the same number as those of `source`."""
    exact = not (source.approximate or other.approximate)
    return source is not other and exact and source.convert == other.convert


def _used(
    source: MetricSource, names: tuple[str, ...], instead: tuple[tuple[str, ...], ...]
) -> UsedSource:
    return UsedSource(
        columns=names,
        instead=instead,
        convert=source.convert,
        approximate=source.approximate,
    )


def translate(
    by_step: Mapping[int, Mapping[str, float]], sources: Mapping[str, UsedSource]
) -> list[dict[str, Any]]:
    """A row for each step, as `stages_of` reads them."""
    rows = []
    for step, values in by_step.items():
        row: dict[str, Any] = {STEP: step}
        for metric, source in sources.items():
            for columns in (source.columns, *source.instead):
                present = [values[name] for name in columns if name in values]
                if present:
                    row[metric] = CONVERSIONS[source.convert](present)
                    break
        rows.append(row)
    return rows


def translated_rows(trainer: Trainer, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a trainer's log with our metrics beside its own names, which are kept.

    Example:
        translated_rows(TRAINERS["trl"], [{"step": 1, "grad_norm": 2.0}])[0]["gradient_norm"] == 2
    """
    kept = [dict(row) for row in rows]
    columns = tuple(dict.fromkeys(name for row in kept for name in row))
    numbers = dict(enumerate(numbers_in(row.items()) for row in kept))
    added = translate(numbers, sources_of(trainer, columns, {}, set()))
    return [
        row | {name: value for name, value in more.items() if name != STEP}
        for row, more in zip(kept, added, strict=True)
    ]
