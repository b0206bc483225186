"""The rows of one run by step: restarts, second runs and two ways of counting are sorted out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from statistics import median

import numpy as np

from steadyrl.analysis.foreign.log import LogRow, to_step
from steadyrl.analysis.foreign.trainers import Trainer
from steadyrl.base.wording import count

SORTED = "The rows are not in the order of their steps; they were sorted."
COUNTED = "The steps stand still or are not whole numbers, so logged rows are counted instead."

FEW = 0.1
"""Share of the rows that may lack a step, and are left out then."""

MOST = 0.5
"""Share of the steps that two runs in one file have both logged."""

Stepped = tuple[int, int | None, LogRow]
"""A row with its step, and its optimizer step if it counts those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedRows:
    """The rows of one run."""

    by_step: dict[int, dict[str, float]]
    """Values by step and column, in the order of the steps."""

    updates: int | None
    """Optimizer steps for each rollout; None if the log does not tell."""

    remarks: tuple[str, ...]


@dataclass(slots=True)
class _Run:
    """What is kept of a run while its rows are read."""

    values: dict[int, dict[str, float]] = field(default_factory=dict)
    updates: dict[int, dict[int, dict[str, float]]] = field(default_factory=dict)
    """By rollout and optimizer step."""

    last: int | None = None
    """Step of the last row that had the reference column."""

    first: int | None = None
    repeated: list[tuple[int, int]] = field(default_factory=list)
    """First and last step of what a restart repeated."""

    contradicted: set[int] = field(default_factory=set)
    """Steps that were logged twice in succession, with different values."""

    def drop_from(self, step: int) -> None:
        for steps in (self.values, self.updates):
            for one in [each for each in steps if each >= step]:
                del steps[one]


def by_step(rows: Iterable[LogRow], trainer: Trainer, reference: str) -> SteppedRows:
    """`rows` by step, later values in the place of earlier ones.

    A step that is smaller than the one before it is a restart: what follows takes the place of what
    was logged from that step on. If it goes back to the first step, a second run begins, and the
    rows before it are left out. Where no step occurs twice, nothing was logged again, and the rows
    are only in another order.

    Args:
        reference: Column by whose rows a restart is noticed.
    """
    run, runs = _Run(), 1
    stepped, remarks = _stepped(list(rows), trainer, reference)
    marks = [step for step, _, row in stepped if reference in row.values]
    unordered = _is_unordered(marks) and all(update is None for _, update, _ in stepped)
    if unordered:
        stepped.sort(key=itemgetter(0))
    for step, update, row in stepped:
        if reference in row.values and update is None:
            if run.first is not None and step <= run.first and step != run.last:
                run, runs = _Run(), runs + 1
            elif run.last is not None and step < run.last:
                run.repeated.append((step, run.last))
                run.drop_from(step)
            run.first = step if run.first is None else run.first
            run.last = step
        if update is None:
            known = run.values.setdefault(step, {})
            if reference in known and _differ(known[reference], row.values.get(reference)):
                run.contradicted.add(step)
            known.update(row.values)
        else:
            rollout = update if run.last is None else run.last
            run.updates.setdefault(rollout, {}).setdefault(update, {}).update(row.values)
    found = _finished(run, runs)
    return replace(found, remarks=(*remarks, *([SORTED] if unordered else []), *found.remarks))


def _differ(one: float, other: float | None) -> bool:
    return other is not None and one != other and not (math.isnan(one) and math.isnan(other))


def _is_unordered(steps: Sequence[int]) -> bool:
    """Whether steps do not rise, though none of them occurs twice."""
    return list(steps) != sorted(steps) and len(set(steps)) == len(steps)


def _stepped(
    rows: Sequence[LogRow], trainer: Trainer, reference: str
) -> tuple[list[Stepped], list[str]]:
    """Each row with its steps. Where many have none, they are counted; a few are left out."""
    steps = [_steps_of(row, trainer) for row in rows]
    lacking = [step is None and update is None for step, update in steps]
    of_reference = [
        lacks for lacks, row in zip(lacking, rows, strict=True) if reference in row.values
    ]
    some = any(of_reference) and not all(of_reference)
    still = {step for (step, _), row in zip(steps, rows, strict=True) if reference in row.values}
    stands = len(of_reference) > 2 and len(still) == 1 and None not in still
    counted = stands or (some and np.mean(of_reference) > FEW)
    stepped = [
        (number if step is None or counted else step, update, row)
        for number, ((step, update), row) in enumerate(zip(steps, rows, strict=True), 1)
        if not (some and not counted and step is None and update is None)
    ]
    if counted:
        return stepped, [COUNTED]
    left_out = len(rows) - len(stepped)
    return stepped, [f"{count(left_out, 'row')} without a step left out."] if left_out else []


def _steps_of(row: LogRow, trainer: Trainer) -> tuple[int | None, int | None]:
    """The step of a row, and its optimizer step if the row counts those."""
    if trainer.update_step in row.values:
        return None, to_step(row.values[trainer.update_step])
    group = trainer.update_step.rpartition("/")[0]
    if group and row.values and all(name.startswith(f"{group}/") for name in row.values):
        return None, row.step
    named = (to_step(row.values[name]) for name in trainer.steps if name in row.values)
    return next((step for step in named if step is not None), row.step), None


def _finished(run: _Run, runs: int) -> SteppedRows:
    for rollout, updates in run.updates.items():
        means = _means(list(updates.values()))
        run.values[rollout] = {**means, **run.values.get(rollout, {})}
    counts = [len(updates) for updates in run.updates.values()]
    remarks = [
        f"Steps {first} to {last} were logged again after a restart; the later values count."
        for first, last in run.repeated
    ]
    if len(run.contradicted) > max(2, MOST * len(run.values)):
        remarks.append(
            f"{len(run.contradicted)} steps were logged twice with different values, as by two "
            "runs, or several processes of one, that write into one file; the later values count."
        )
    if runs > 1:
        remarks.insert(0, f"The log holds {runs} runs, one after the other; the last one is read.")
    return SteppedRows(
        by_step=dict(sorted(run.values.items())),
        updates=round(median(counts)) if counts else None,
        remarks=tuple(remarks),
    )


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each column over the updates of a rollout."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
