"""Held-out answers before and after training, in pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.records.intervals import Interval, mean_interval
from steadyrl.records.run_folder import RunFolder, read_json_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer to a held-out task."""

    task_id: str
    prompt: str
    response: str
    reward: float

    sample: int = 0
    """Which of the answers to this task."""

    finish_reason: str = ""
    response_tokens: int | None = None
    feedback: str = ""
    truncation_reason: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any], origin: str) -> "Sample":
        """The answer that a row of a completions file holds; `origin` names the row in errors."""
        for name, kind in (
            ("task_id", str),
            ("prompt", str),
            ("response", str),
            ("reward", int | float),
        ):
            if not isinstance(row.get(name), kind):
                raise UserError(
                    f'{origin} has no usable "{name}", got {row.get(name)!r}. '
                    "Remove that row, or the file, and report again."
                )
        return cls(
            task_id=row["task_id"],
            prompt=row["prompt"],
            response=row["response"],
            reward=float(row["reward"]),
            sample=row.get("sample") or 0,
            finish_reason=row.get("finish_reason") or "",
            response_tokens=row.get("response_tokens"),
            feedback=row.get("feedback") or "",
            truncation_reason=row.get("truncation_reason") or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one task."""

    before: Sample

    after: Sample | None
    """None while the run has evaluated once only."""

    @property
    def change(self) -> float:
        """Reward gained."""
        return 0.0 if self.after is None else self.after.reward - self.before.reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The first and the last evaluation of a stage, answer by answer."""

    before_step: int

    after_step: int | None
    """None while the run has evaluated once only."""

    pairs: tuple[Pair, ...]
    """In the order of the file."""

    @property
    def gain(self) -> Interval | None:
        """95% interval of the mean change of reward over tasks; None without two of them."""
        changes: dict[str, list[float]] = {}
        for pair in self.pairs:
            if pair.after is not None:
                changes.setdefault(pair.before.task_id, []).append(pair.change)
        return mean_interval([fmean(values) for values in changes.values()])

    def shown(self, limit: int) -> tuple[Pair, ...]:
        """At most one pair a task and `limit` in all, those that got worse first.

        The others follow, the largest gain first. They have half of the places, or what is left.
        """
        by_task: dict[str, Pair] = {}
        for pair in self.pairs:
            held = by_task.setdefault(pair.before.task_id, pair)
            if (abs(pair.change), -pair.change) > (abs(held.change), -held.change):
                by_task[pair.before.task_id] = pair
        ordered = sorted(by_task.values(), key=lambda pair: pair.change)
        worse = [pair for pair in ordered if pair.change < 0]
        others = sorted(ordered[len(worse) :], key=lambda pair: -pair.change)
        places = max(limit - len(others), (limit + 1) // 2)
        first = worse[:places]
        return (*first, *others[: limit - len(first)])


def read_comparison(folder: RunFolder, stage: str) -> Comparison | None:
    """The evaluations of `stage` in `folder`; None when it kept none.

    Raises:
        UserError: a row lacks its task, prompt, response or reward.
    """
    prefix = f"evaluation_{stage}-"
    files = sorted(
        (int(path.stem.removeprefix(prefix)), path)
        for path in folder.completions.glob(f"{prefix}*.jsonl")
        if path.stem.removeprefix(prefix).isdigit()
    )
    if not files:
        return None
    (before_step, first), (after_step, last) = files[0], files[-1]
    before = _read_samples(first)
    if first == last:
        pairs = tuple(Pair(before=sample, after=None) for sample in before)
        return Comparison(before_step=before_step, after_step=None, pairs=pairs)
    after = {(sample.task_id, sample.sample): sample for sample in _read_samples(last)}
    pairs = tuple(
        Pair(before=sample, after=after[sample.task_id, sample.sample])
        for sample in before
        if (sample.task_id, sample.sample) in after
    )
    return Comparison(before_step=before_step, after_step=after_step, pairs=pairs)


def _read_samples(path: Path) -> list[Sample]:
    rows = enumerate(read_json_lines(path), start=1)
    return [Sample.from_row(row, f"Row {number} of {path}") for number, row in rows]
