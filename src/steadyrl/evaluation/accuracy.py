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
"""Of the order of held-out tasks, which is the same in every run."""


class EvaluationSettings(Settings):
    """What a policy is measured on."""

    split: Split = Split.TEST
    """Which tasks. No task of one split occurs in another."""

    tasks: int = Field(256, ge=1)
    """Held-out tasks: the same ones in every run, or all of them where the split has fewer. Of a
    stored set they are drawn from the whole split, not taken from its head."""

    samples: int = Field(4, ge=1)
    """Episodes for each task: the k of avg@k."""

    max_turns: int = Field(32, ge=1)
    """Turns after which an episode is cut short."""

    temperature: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """Sampling temperature of evaluations. None: as in training."""

    top_p: float | None = Field(None, gt=0.0, le=1.0)
    """Draw from the smallest set of tokens that holds this probability. None: as in training."""

    top_k: int | None = Field(None, ge=1)
    """Draw from this many most probable tokens at most. None: as in training."""

    drift: DriftChoice = "auto"
    """Score a few fixed off-task texts at each evaluation of a run, to see what is forgotten. auto:
    where the tokenizer can write them, as those of pretrained models can."""

    def sampling(self, training: Sampling) -> Sampling:
        """How tokens are drawn here, where training draws them as `training` says."""
        own = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        given = {name: value for name, value in own.items() if value is not None}
        return training.model_copy(update=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How a policy did on held-out tasks, with the episodes it is counted from."""

    groups: tuple[Group, ...]
    split: Split = Split.TEST

    def shortfall(self, asked: int) -> str:
        """That the split has fewer tasks than were `asked` for, in words; empty if it has not."""
        measured = len(self.groups)
        if measured >= asked:
            return ""
        return f"the {self.split} split has no more than {measured} tasks, {asked} were asked for"

    @property
    def samples(self) -> int:
        """Episodes of each task."""
        return min(len(group.trajectories) for group in self.groups)

    @property
    def failed_fraction(self) -> float:
        """Share of episodes that their environment broke off: neither score nor pass@k has them."""
        failed = [episode.environment_failed for episode in self._episodes]
        return sum(failed) / len(failed)

    @property
    def failed_tasks(self) -> int:
        """Tasks of which every episode was broken off, so that they are not in the score."""
        return sum(not group.trajectories for group in self._sound)

    @property
    def is_measured(self) -> bool:
        """Whether the environment did not fail wherever it was asked."""
        failed = [episode.environment_failed for episode in self._episodes]
        answered = [_asks_environment(e) and not e.environment_failed for e in self._episodes]
        return any(answered) or not any(failed)

    @property
    def score(self) -> float:
        """avg@k: the mean over tasks of the mean reward of the sound episodes, where measured."""
        assert self.is_measured
        return fmean(self._measured_tasks)

    @property
    def interval(self) -> Interval | None:
        """The 95% interval of the score over tasks; None for fewer than two tasks."""
        return score_interval(self._measured_tasks)

    @property
    def task_scores(self) -> list[float | None]:
        """Mean reward of each task's sound episodes; None where there are none."""
        sound = [[t.reward for t in group.trajectories] for group in self._sound]
        return [fmean(rewards) if rewards else None for rewards in sound]

    def require_measured(self) -> None:
        """Returns if something was measured.

        Raises:
            UserError: the environment failed wherever it was asked.
        """
        if not self.is_measured:
            broken = [episode for episode in self._episodes if episode.environment_failed]
            raise UserError(
                f"No episode of the evaluation could be judged: {len(broken)} failed. "
                f"{first_failure(broken)}"
            )

    def pass_at(self, k: int) -> float | None:
        """pass@k: the chance that one of `k` samples earns the full reward of 1.

        The unbiased estimator 1 - C(n - c, k) / C(n, k) of arXiv:2107.03374 for n sound samples of
        a task, c of them right. Tasks with fewer than `k` sound samples are left out; None if no
        other is left.

        Raises:
            UserError: fewer than `k` samples were drawn of a task.
        """
        if not 1 <= k <= self.samples:
            raise UserError(
                f"pass@{k} cannot be estimated from {self.samples} samples of a task. Ask for k "
                f"from 1 to {self.samples}, or draw more samples."
            )
        chances = [_pass_at(group, k) for group in self._sound if len(group.trajectories) >= k]
        return sum(chances) / len(chances) if chances else None

    def metrics(self) -> dict[str, float]:
        """What a run records: score, its interval and pass@k where measured; what was left out."""
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
    """Episodes of the engine's policy on the held-out tasks of `settings`, each task once.

    Args:
        sampling: Of training.
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
    """Whether the environment was to answer a turn. It never sees one that was cut short."""
    turns = [completion.finish_reason for completion in episode.completions]
    return len(turns) > 1 or turns == [FinishReason.STOP]


def _pass_at(group: Group, k: int) -> float:
    n = len(group.trajectories)
    right = sum(trajectory.reward >= 1 for trajectory in group.trajectories)
    return 1 - comb(n - right, k) / comb(n, k)
