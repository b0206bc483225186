"""A run of another trainer, from its log: what is known of it, what is missing, and the diagnosis.

path -> Log -> Trainer -> rows by step -> stages -> diagnose, in the trainer's words
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from steadyrl.analysis.diagnosis import READ, Diagnosis, Status, diagnose
from steadyrl.analysis.foreign.layouts import read_log
from steadyrl.analysis.foreign.log import Log
from steadyrl.analysis.foreign.steps import SteppedRows, by_step
from steadyrl.analysis.foreign.trainers import AUTO, Trainer, find_trainer
from steadyrl.analysis.foreign.translation import (
    STEP,
    UsedSource,
    parse_columns,
    sources_of,
    translate,
)
from steadyrl.analysis.metric_texts import METRIC_TEXTS, text_for
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage, stages_of
from steadyrl.analysis.signals import MIN_STEPS
from steadyrl.base.errors import UserError
from steadyrl.base.wording import short_number

UNLIMITED = (
    "Staleness KL (k3) has no limit here: the log does not say how many optimizer steps a rollout "
    "gets. Give --updates-per-rollout."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRun:
    """What is known of a run of another trainer."""

    path: Path
    """Its log: a file or a folder."""

    trainer: Trainer
    layout: str
    stages: tuple[Stage, ...]
    settings: RunSettings

    sources: Mapping[str, UsedSource]
    """By our metric, where it comes from."""

    remarks: tuple[str, ...]
    """What was sorted out or left out in the log."""

    @property
    def name(self) -> str:
        """The name of its log."""
        return self.path.resolve().name

    @property
    def report(self) -> Path:
        """Where its report goes: into its folder, or beside the file under the file's name."""
        if self.path.is_dir():
            return self.path / "report.html"
        return self.path.with_name(f"{self.path.name}.report.html")

    def diagnose(self) -> Diagnosis:
        """The diagnosis, with the remedy in the trainer's words."""
        return diagnose_in_words_of(self.trainer, self.stages, self.settings)

    @property
    def known(self) -> dict[str, str]:
        """By our metric, the columns that it comes from."""
        return {
            metric: _columns(source)
            for metric, source in self.sources.items()
            if metric in METRIC_TEXTS
        }

    @property
    def approximate(self) -> dict[str, str]:
        """By our metric, how its value differs from our definition."""
        found = {metric: source.approximate for metric, source in self.sources.items()}
        return {metric: text for metric, text in found.items() if text}

    @property
    def missing(self) -> dict[str, str]:
        """By our metric that a diagnosis would use, the setting that logs it; empty: none does."""
        return {
            metric: self.trainer.missing.get(metric, "")
            for metric in READ
            if metric not in self.sources
            and not (self.trainer.one_update and metric == "staleness_kl_k3")
        }

    @property
    def facts(self) -> tuple[str, ...]:
        """What is known and what is not, in sentences, for text and report."""
        known = ", ".join(
            f"{text_for(name).title} ({theirs})" for name, theirs in self.known.items()
        )
        version = f" (names of {self.trainer.read_from})" if self.trainer.read_from else ""
        unlogged = [text_for(name).title for name, text in self.missing.items() if not text]
        lines = [
            f"Read as a log of {self.trainer.title}{version}, from {self.layout}.",
            f"Known: {known}.",
            *(f"Approximate: {text_for(name).title}; {t}" for name, t in self.approximate.items()),
            *(f"Missing: {text_for(name).title}. {t}" for name, t in self.missing.items() if t),
        ]
        if unlogged:
            lines.append(f"Not logged by {self.trainer.title}: {', '.join(unlogged)}.")
        return (*lines, *self.remarks)

    def to_text(self) -> str:
        """The diagnosis for a reader, and below it what it rests on."""
        text = replace(self.diagnose(), missing=()).to_text(self.name)
        return "\n".join([text, "", *self.facts])

    def to_values(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        diagnosis = {key: v for key, v in self.diagnose().to_values().items() if key != "missing"}
        return {
            "trainer": self.trainer.name,
            "read_from": self.trainer.read_from,
            "layout": self.layout,
            **diagnosis,
            "known": self.known,
            "approximate": self.approximate,
            "missing": self.missing,
            "log": list(self.remarks),
        }


def diagnose_in_words_of(
    trainer: Trainer, stages: Sequence[Stage], settings: RunSettings
) -> Diagnosis:
    """The diagnosis of a run of `trainer`: it is healthy after some rows only, and its remedy is
    in the trainer's words.

    Raises:
        UserError: there is no step of reinforcement.
    """
    found = diagnose(stages, settings)
    read = [stages[-1].finite(metric) for metric in READ]
    rows = max((len(series.steps) for series in read if series is not None), default=0)
    if found.status is Status.HEALTHY and rows < MIN_STEPS:
        found = replace(found, status=Status.TOO_SHORT)
    remedy = trainer.remedies.get(found.cause.name.name.lower()) if found.cause else None
    if found.cause is None or remedy is None:
        return found
    rate = settings.learning_rate
    now = "" if rate is None else f" (now {short_number(rate)})"
    return replace(found, cause=replace(found.cause, change=remedy.format(now=now)))


def read_foreign_run(
    path: Path,
    *,
    trainer: str = AUTO,
    columns: Sequence[str] = (),
    updates_per_rollout: int | None = None,
) -> ForeignRun:
    """The run whose log is at `path`.

    Example:
        read_foreign_run(Path("outputs/checkpoint-500")).diagnose().status

    Args:
        path: A file, or the folder that holds it.
        trainer: Who wrote it: a name of `TRAINERS`, or "auto".
        columns: `METRIC=COLUMN` for what the trainer's table does not name.
        updates_per_rollout: Optimizer steps for each rollout, where the log does not say.

    Raises:
        UserError: there is no log, its layout or its names are not known, or it has no metric that
            a diagnosis uses.
    """
    log = read_log(path)
    mapped = parse_columns(columns, log.columns)
    found = find_trainer(log.columns, trainer, mapped=bool(mapped))
    if STEP in mapped:
        found = replace(found, steps=(mapped[STEP], *found.steps))
    zero = {name for name in log.columns if _is_zero(log, name)}
    sources = sources_of(found, log.columns, mapped, zero)
    _check(path, found, sources, log)
    rows = by_step(log.rows, found, _reference(sources))
    stages = stages_of(translate(rows.by_step, sources), origin=str(path))
    settings = _settings(stages[-1], rows, found, updates_per_rollout)
    remarks = (*log.remarks, *rows.remarks)
    if "staleness_kl_k3" in sources and settings.mini_batches == 1 and not found.one_update:
        known = updates_per_rollout or rows.updates
        remarks = remarks if known else (*remarks, UNLIMITED)
    return ForeignRun(
        path=path,
        trainer=found,
        layout=log.layout,
        stages=stages,
        settings=settings,
        sources=sources,
        remarks=remarks,
    )


def _columns(source: UsedSource) -> str:
    columns = [name for names in (source.columns, *source.instead) for name in names]
    if len(columns) <= 2:
        return " and ".join(columns)
    return f"{columns[0]} and {len(columns) - 1} more"


def _is_zero(log: Log, name: str) -> bool:
    return not any(row.values.get(name, 0.0) for row in log.rows)


def _reference(sources: Mapping[str, UsedSource]) -> str:
    """The column by which a restart is noticed: the reward's, or the first there is."""
    source = sources.get("reward") or next(iter(sources.values()))
    return source.columns[0]


def _check(path: Path, trainer: Trainer, sources: Mapping[str, UsedSource], log: Log) -> None:
    if any(metric in READ for metric in sources):
        return
    names = ", ".join(log.columns[:6])
    if trainer.missing:
        wanted = trainer.missing.get("reward", next(iter(trainer.missing.values())))
        raise UserError(
            f"{path} is a log of {trainer.title} without any metric that a diagnosis uses (it has "
            f"{names}). {wanted}"
        )
    raise UserError(
        f"{path} has no metric that a diagnosis uses (it has {names}). Name at least the reward: "
        "--columns reward=COLUMN."
    )


def _settings(
    stage: Stage, rows: SteppedRows, trainer: Trainer, updates: int | None
) -> RunSettings:
    """What the log tells of the configuration."""
    rate, stale = stage.finite("learning_rate"), stage.finite("staleness")
    positive = () if rate is None else rate.values[rate.values > 0]
    ahead = 0 if stale is None else int(np.ceil(stale.values.max()))
    return RunSettings(
        mini_batches=1 if trainer.one_update else updates or rows.updates or 1,
        learning_rate=float(np.max(positive)) if len(positive) else None,
        max_staleness=ahead,
        objective="grpo",
        one_update=trainer.one_update or (updates or rows.updates) == 1,
        partial_log=True,
    )
