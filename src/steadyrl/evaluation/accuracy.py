"""avg@k and pass@k on held-out tasks."""

from dataclasses import dataclass
from math import comb
from statistics import fmean

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.settings import Settings
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.protocol import Environment, Split
from steadyrl.evaluation.drift import DriftChoice
from steadyrl.records.completion import FinishReason
from steadyrl.records.intervals import Interval, score_interval
from steadyrl.records.trajectory import Group, Trajectory, first_failure, mean_reward_parts
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import first_tasks

ORDER_SEED = 0
"""Seed of the order of held-out tasks, which is the same in every run."""


class EvaluationSettings(Settings):
    """Settings of evaluations."""

    split: Split = Split.TEST
    """Split of the tasks. Splits do not overlap."""

    tasks: int = Field(256, ge=1)
    """Number of held-out tasks: the same tasks in every run, or all tasks of a smaller split. From
    a stored dataset, tasks are drawn from the whole split rather than its beginning."""

    samples: int = Field(4, ge=1)
    """Episodes per task: the k of avg@k."""

    max_turns: int = Field(32, ge=1)
    """Maximum number of turns per episode."""

    temperature: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """Sampling temperature of evaluations. None: as in training."""

    top_p: float | None = Field(None, gt=0.0, le=1.0)
    """Sample from the smallest set of tokens with this total probability. None: as in training."""

    top_k: int | None = Field(None, ge=1)
    """Sample from at most this many of the most probable tokens. None: as in training."""

    drift: DriftChoice = "auto"
    """Score a few fixed off-task texts at each evaluation of a run, to measure forgetting. auto: if
    the tokenizer can represent them, as the tokenizers of pretrained models can."""

    def sampling(self, training: Sampling) -> Sampling:
        """The sampling settings of evaluations, given those of training."""
        own = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        given = {name: value for name, value in own.items() if value is not None}
        return training.model_copy(update=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Accuracy of a policy on held-out tasks, with the underlying episodes."""

    groups: tuple[Group, ...]
    split: Split = Split.TEST

    def shortfall(self, asked: int) -> str:
        """A clause saying that the split has fewer tasks than the `asked` number, or empty."""
        measured = len(self.groups)
        if measured >= asked:
            return ""
        return f"the {self.split} split has only {measured} tasks, {asked} were requested"

    @property
    def samples(self) -> int:
        """Number of episodes per task."""
        return min(len(group.trajectories) for group in self.groups)

    @property
    def failed_fraction(self) -> float:
        """Share of episodes whose environment failed. They are excluded from score and pass@k."""
        failed = [episode.environment_failed for episode in self._episodes]
        return sum(failed) / len(failed)

    @property
    def failed_tasks(self) -> int:
        """Number of tasks without a single sound episode, which are excluded from the score."""
        return sum(not group.trajectories for group in self._sound)

    @property
    def is_measured(self) -> bool:
        """Whether the environment answered at least once, or never failed."""
        failed = [episode.environment_failed for episode in self._episodes]
        answered = [_asks_environment(e) and not e.environment_failed for e in self._episodes]
        return any(answered) or not any(failed)

    @property
    def score(self) -> float:
        """avg@k: mean over tasks of the mean reward of their sound episodes."""
        assert self.is_measured
        return fmean(self._measured_tasks)

    @property
    def interval(self) -> Interval | None:
        """95% confidence interval of the score over tasks; None for fewer than two tasks."""
        return score_interval(self._measured_tasks)

    @property
    def task_scores(self) -> list[float | None]:
        """Mean reward of each task's sound episodes; None for tasks without sound episodes."""
        sound = [[t.reward for t in group.trajectories] for group in self._sound]
        return [fmean(rewards) if rewards else None for rewards in sound]

    def require_measured(self) -> None:
        """Checks that something was measured.

        Raises:
            UserError: the environment failed whenever it was called.
        """
        if not self.is_measured:
            broken = [episode for episode in self._episodes if episode.environment_failed]
            cut = len(self._episodes) - len(broken)
            others = f" and {cut} were cut short before the environment was called" if cut else ""
            raise UserError(
                f"No episode of the evaluation could be judged: {len(broken)} failed{others}. "
                f"{first_failure(broken)}"
            )

    def pass_at(self, k: int) -> float | None:
        """pass@k: probability that at least one of `k` samples earns the full reward of 1.

        The unbiased estimator 1 - C(n - c, k) / C(n, k) of arXiv:2107.03374 for a task with n sound
        samples, c of them correct. Tasks with fewer than `k` sound samples are skipped; None if no
        task remains.

        Raises:
            UserError: fewer than `k` samples per task were drawn.
        """
        if not 1 <= k <= self.samples:
            raise UserError(
                f"pass@{k} cannot be estimated from {self.samples} samples per task. Use k "
                f"from 1 to {self.samples}, or draw more samples."
            )
        chances = [_pass_at(group, k) for group in self._sound if len(group.trajectories) >= k]
        return sum(chances) / len(chances) if chances else None

    def metrics(self) -> dict[str, float]:
        """Metrics of a run: score, its interval and pass@k if measured, and exclusion counts."""
        failures: dict[str, float] = {
            "score_failed_fraction": self.failed_fraction,
            "score_failed_tasks": self.failed_tasks,
        }
        if not self.is_measured:
            return failures
        chance, interval = self.pass_at(self.samples), self.interval
        ends = {} if interval is None else {"score_low": interval.low, "score_high": interval.high}
        return {
            "score": self.score,
            **ends,
            **mean_reward_parts((t for group in self._sound for t in group.trajectories), "score"),
            **({} if chance is None else {"score_pass_at_k": chance}),
            **failures,
        }

    @property
    def _episodes(self) -> list[Trajectory]:
        return [episode for group in self.groups for episode in group.trajectories]

    @property
    def _measured_tasks(self) -> list[float]:
        return [score for score in self.task_scores if score is not None]

    @property
    def _sound(self) -> list[Group]:
        return [group.sound for group in self.groups]


async def measure_accuracy(
    settings: EvaluationSettings,
    *,
    environment: Environment,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    seed: int,
    progress: Progress = NO_PROGRESS,
) -> Accuracy:
    """Plays episodes on the held-out tasks of `settings` with the engine's policy.

    Args:
        sampling: Sampling settings of training.
    """
    tasks = first_tasks(environment, settings.split, settings.tasks, seed=ORDER_SEED)
    groups = await play_groups(
        environment,
        engine,
        tokenizer,
        tasks,
        group_size=settings.samples,
        sampling=settings.sampling(sampling),
        seed=seed,
        max_turns=settings.max_turns,
        progress=progress,
    )
    return Accuracy(groups=tuple(groups), split=settings.split)


def _asks_environment(episode: Trajectory) -> bool:
    """Whether the environment was called with a turn. It never receives truncated turns."""
    turns = [completion.finish_reason for completion in episode.completions]
    return len(turns) > 1 or turns == [FinishReason.STOP]


def _pass_at(group: Group, k: int) -> float:
    n = len(group.trajectories)
    right = sum(trajectory.reward >= 1 for trajectory in group.trajectories)
    return 1 - comb(n - right, k) / comb(n, k)
