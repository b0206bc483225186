"""Held-out answers before and after training, in pairs."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from statistics import fmean

from steadyrl.records.intervals import Interval, mean_interval
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.truncation import ENVIRONMENT_FAILED
from steadyrl.report.rows import Row, completions_by_step, read_rows


class Sample(Row):
    """One answer to a held-out task."""

    task_id: str
    prompt: str
    response: str
    reward: float

    sample: int = 0
    """Index of the completion of its task."""

    finish_reason: str = ""
    response_tokens: int | None = None
    feedback: str = ""
    truncation_reason: str = ""


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

    @property
    def signs(self) -> Counter[int]:
        """Numbers of answers that improved (1), got worse (-1), or earned the same (0)."""
        return Counter((pair.change > 0) - (pair.change < 0) for pair in self.pairs)

    def shown(self, limit: int) -> tuple[Pair, ...]:
        """At most one pair per task and `limit` in all, those that got worse first.

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
        first = worse[: max(limit - len(others), (limit + 1) // 2)]
        return (*first, *others[: limit - len(first)])


def read_task_scores(
    folder: RunFolder, stage: str, steps: Collection[int]
) -> dict[int, dict[str, float]]:
    """By step and task, the mean reward in the evaluations of `stage` at `steps` that were kept.

    Episodes that the environment broke off are left out, as in the score.

    Raises:
        UserError: a row lacks its task, prompt, response or reward.
    """
    scores: dict[int, dict[str, float]] = {}
    for step, path in completions_by_step(folder, f"evaluation_{stage}"):
        if step not in steps:
            continue
        rewards: dict[str, list[float]] = {}
        for sample in read_rows(Sample, path):
            if not sample.truncation_reason.startswith(ENVIRONMENT_FAILED):
                rewards.setdefault(sample.task_id, []).append(sample.reward)
        scores[step] = {task: fmean(values) for task, values in rewards.items()}
    return scores


def read_comparison(folder: RunFolder, stage: str) -> Comparison | None:
    """The evaluations of `stage` in `folder`; None when it kept none.

    Raises:
        UserError: a row lacks its task, prompt, response or reward.
    """
    files = completions_by_step(folder, f"evaluation_{stage}")
    if not files:
        return None
    (before_step, first), (after_step, last) = files[0], files[-1]
    before, once = read_rows(Sample, first), first == last
    later = [] if once else read_rows(Sample, last)
    after = {(sample.task_id, sample.sample): sample for sample in later}
    pairs = [Pair(before=s, after=after.get((s.task_id, s.sample))) for s in before]
    return Comparison(
        before_step=before_step,
        after_step=None if once else after_step,
        pairs=tuple([pair for pair in pairs if once or pair.after is not None]),
    )
