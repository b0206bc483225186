"""What other trainers call our metrics and settings, read from a table for each of them.

A table says of which version it was read, by which names a log is recognized, where each metric of
ours comes from, which setting logs it, and what to change for each cause.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.base.errors import UserError

MIN_NAMES = 2
"""Names of its own by which a trainer is recognized."""


@dataclass(frozen=True)
class MetricSource:
    """Columns from which a metric of ours follows.

    Example:
        MetricSource(names=("actor/ppo_kl",), convert="magnitude", approximate="the k1 estimate")
    """

    names: tuple[str, ...]
    """`*` stands for one part of a name between slashes. The mean of several columns counts."""

    without: tuple[str, ...] = ()
    """Names that `names` would also match."""

    convert: str = "same"
    """A name of `translation.CONVERSIONS`."""

    approximate: str = ""
    """How it differs from our definition; empty if it does not."""

    ignore_zero: bool = False
    """Whether a column of zeros means that it was not computed."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _any_of(self.names)

    def columns_in(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Those of `columns` that this source reads."""
        left_out = _any_of(self.without)
        return tuple(
            [
                name
                for name in columns
                if self._pattern.fullmatch(name) and not left_out.fullmatch(name)
            ]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainer:
    """A trainer whose logs can be read."""

    name: str
    """For `--format`."""

    title: str

    read_from: str = ""
    """Version or commit of its source from which the table was read."""

    own: tuple[str, ...] = ()
    """Names by which its logs are recognized."""

    fork_of: str = ""
    """The trainer whose names it shares: a log with no others is read as that one's."""

    steps: tuple[str, ...] = ()
    """Columns that hold the step, the preferred first."""

    update_step: str = ""
    """Column that counts optimizer steps, in rows that belong to the rollout logged before them.
    Rows of nothing but columns of its group, such as `train/`, count optimizer steps, too."""

    one_update: bool = False
    """Whether it takes one optimizer step for each batch, so that nothing is stale within one."""

    sources: Mapping[str, tuple[MetricSource, ...]] = field(default_factory=dict)
    """By our metric, where it comes from, the exact source first."""

    missing: Mapping[str, str] = field(default_factory=dict)
    """By our metric, the setting that logs it."""

    remedies: Mapping[str, str] = field(default_factory=dict)
    """By the name of a cause, what to change."""

    also: tuple[str, ...] = ()
    """Further columns that a report shows under their own names."""

    def recognized(self, columns: Iterable[str]) -> int:
        """How many of the names in `own` are among `columns`."""
        columns = tuple(columns)
        return sum(any(map(_any_of((name,)).fullmatch, columns)) for name in self.own)


@cache
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """Matches one of `names`, in which `*` stands for a part without a slash."""
    return re.compile(
        "|".join(re.escape(name).replace(r"\*", "[^/]+") for name in names) or r"(?!)"
    )


def _trainer(name: str, table: dict[str, Any]) -> Trainer:
    metrics = table.pop("metrics", {})
    sources = {metric: tuple(map(_source, entries)) for metric, entries in metrics.items()}
    return Trainer(name=name, sources=sources, **{key: _plain(v) for key, v in table.items()})


def _source(entry: Mapping[str, Any]) -> MetricSource:
    return MetricSource(**{key: _plain(value) for key, value in entry.items()})


def _plain(value: Any) -> Any:
    """A value of a table: lists as tuples, texts by name with their line breaks joined."""
    if isinstance(value, dict):
        return {key: " ".join(text.split()) for key, text in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _tables() -> dict[str, Trainer]:
    folder = files("steadyrl.analysis.foreign") / "trainers"
    texts = {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in folder.iterdir()}
    return {name: _trainer(name, tomllib.loads(texts[name])) for name in sorted(texts)}


_SHARED = ("learning_rate", "response_length")
"""Names with an underscore that other trainers use, too."""

OURS = Trainer(
    name="steadyrl",
    title="steadyrl",
    read_from="this version",
    own=tuple([name for name in METRIC_TEXTS if "_" in name and name not in _SHARED]),
    steps=("step",),
    sources={name: (MetricSource(names=(name.replace("NAME", "*"),)),) for name in METRIC_TEXTS},
)
"""Rows under our own names, without a run folder."""

COLUMNS = Trainer(name="columns", title="a trainer that is not known", steps=("step", "_step"))
"""A log of which only what `--columns` names is understood."""

TRAINERS: dict[str, Trainer] = {**_tables(), OURS.name: OURS, COLUMNS.name: COLUMNS}
"""By name, for `--format`."""

AUTO = "auto"


def find_trainer(columns: tuple[str, ...], wanted: str, *, mapped: bool) -> Trainer:
    """The trainer that wrote a log with these columns.

    Args:
        columns: All names in the log.
        wanted: The value of `--format`.
        mapped: Whether `--columns` names metrics.

    Raises:
        UserError: none is known that would, or several are.
    """
    if wanted != AUTO:
        return TRAINERS[wanted]
    counts = {trainer: trainer.recognized(columns) for trainer in TRAINERS.values()}
    most = max(counts.values())
    found = [trainer for trainer, number in counts.items() if number == most >= MIN_NAMES]
    names = {trainer.name for trainer in found}
    found = [trainer for trainer in found if trainer.fork_of not in names]
    if len(found) == 1:
        return found[0]
    if mapped:
        return COLUMNS
    written = ", ".join(columns[:6]) + (", ..." if len(columns) > 6 else "")
    if found:
        titles = " or ".join(trainer.title for trainer in found)
        raise UserError(f"The log may be of {titles} (it has {written}). Say which with --format.")
    near = [trainer for trainer, number in counts.items() if number == most > 0]
    if len(near) == 1:
        raise UserError(
            f"The log has {written}, too little to tell its trainer. If it is {near[0].title}, add "
            f"--format {near[0].name}."
        )
    raise UserError(
        f"No known trainer logs such names: {written}. Say which are the metrics, such as "
        "--columns reward=COLUMN step=COLUMN, with the names of docs/metrics.md on the left, or "
        "--format steadyrl if the log has those."
    )
