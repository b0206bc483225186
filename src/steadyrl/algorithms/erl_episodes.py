"""One episode of Experiential RL: an attempt, perhaps a reflection, perhaps another attempt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from steadyrl.algorithms.memory import MemoryEntry
from steadyrl.algorithms.reflection import Reflection
from steadyrl.environments.protocol import Task
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.message import Message
from steadyrl.records.reflected_episode import (
    FIRST_ATTEMPT,
    REFLECTION,
    SECOND_ATTEMPT,
    ReflectedEpisode,
)
from steadyrl.records.trajectory import Group, Trajectory


@dataclass(slots=True, kw_only=True)
class ExperientialEpisode:
    """An episode under way.

    Example:
        ExperientialEpisode(number=0, task_index=0, task=task, first_attempt=trajectory,
                            reflects=True)
    """

    number: int
    """Position among all episodes of the run."""

    task_index: int
    """Position of its task among those of the step."""

    task: Task
    first_attempt: Trajectory

    reflects: bool
    """Whether the first attempt is to be reflected on."""

    recalled: tuple[MemoryEntry, ...] = ()
    """What the reflection read of the memory."""

    reflection: Reflection | None = None
    """None where nobody reflects, too."""

    guided_task: Task | None = None
    """The task as the second attempt is asked it."""

    second_attempt: Trajectory | None = None

    memory_write: MemoryWrite | None = None
    """How the reflection was remembered; None when it was not."""

    failure: str = ""
    """What broke; nothing that came of it is trained on. Empty when all went as it should."""

    @property
    def second_reward(self) -> float | None:
        """r2; None when there was no second attempt, or the environment failed in it."""
        if self.second_attempt is None or self.second_attempt.environment_failed:
            return None
        return self.second_attempt.reward

    @property
    def last_reward(self) -> float:
        """r2 where there is one, else r1."""
        return self.first_attempt.reward if self.second_reward is None else self.second_reward

    @property
    def succeeds(self) -> bool:
        """Whether the second attempt earned something, so that it is internalised if any is."""
        return (self.second_reward or 0.0) > 0

    def to_record(self, *, internalizes: bool) -> ReflectedEpisode:
        """What became of the episode, for the record."""
        return ReflectedEpisode(
            number=self.number,
            reflects=self.reflects,
            recalled=tuple([entry.slot for entry in self.recalled]),
            internalized=internalizes and self.succeeds,
            remembered=None if self.memory_write is None else self.memory_write.slot,
            failure=self.failure,
        )

    @property
    def reflection_trajectory(self) -> Trajectory | None:
        """The reflection as an episode of its own, whose reward is r2; None when there is none."""
        if self.reflection is None:
            return None
        reflection, reply = self.reflection, self.reflection.reply
        said = (Message(role="assistant", content=reply),) if reply else ()
        failure = reflection.failure or self.failure
        return Trajectory(
            task_id=self.task.id,
            messages=(*reflection.prompt, *said),
            completions=() if reflection.completion is None else (reflection.completion,),
            reward=self.second_reward or 0.0,
            terminated=not failure,
            truncated=bool(failure),
            truncation_reason=failure,
        )


def group_by_task(
    episodes: Sequence[ExperientialEpisode],
    part: str,
    pick: Callable[[ExperientialEpisode], Trajectory | None],
) -> list[Group]:
    """What `pick` finds in the episodes of each task, as groups in the order of tasks."""
    found: dict[int, list[Trajectory]] = {}
    for episode in episodes:
        trajectory = pick(episode)
        if trajectory is not None:
            found.setdefault(episode.task_index, []).append(trajectory)
    return [
        Group(task_id=trajectories[0].task_id, trajectories=tuple(trajectories), part=part)
        for trajectories in found.values()
    ]


def groups_with_records(
    episodes: Sequence[ExperientialEpisode], *, internalizes: bool
) -> list[Group]:
    """Everything that was written, failures included: part by part, each in the order of tasks."""

    def with_record(episode: ExperientialEpisode, part: Trajectory | None) -> Trajectory | None:
        record = episode.to_record(internalizes=internalizes)
        return None if part is None else replace(part, episode=record)

    return [
        *group_by_task(episodes, FIRST_ATTEMPT, lambda e: with_record(e, e.first_attempt)),
        *group_by_task(episodes, REFLECTION, lambda e: with_record(e, e.reflection_trajectory)),
        *group_by_task(episodes, SECOND_ATTEMPT, lambda e: with_record(e, e.second_attempt)),
    ]


def episode_metrics(episodes: Sequence[ExperientialEpisode]) -> dict[str, float]:
    """What the parts of the episodes earned, and how often they came about.

    Rewards are those of episodes whose environment did not fail in the first attempt; without any
    there are none.
    """
    sound = [episode for episode in episodes if not episode.first_attempt.environment_failed]
    second = [
        e.second_attempt
        for e in episodes
        if e.second_attempt is not None and e.second_reward is not None
    ]
    reflections = [t for e in episodes if (t := e.reflection_trajectory) and t.completions]
    metrics = {
        "reflection_fraction": _mean([float(episode.reflects) for episode in episodes]),
        "failed_reflections": float(sum(e.reflects and bool(e.failure) for e in episodes)),
    }
    if sound:
        metrics["reward_after_reflection"] = _mean([episode.last_reward for episode in sound])
    if reflections:
        metrics["reflection_length"] = _mean([_length(t) for t in reflections])
    if second:
        metrics["reward_reflected"] = _mean([trajectory.reward for trajectory in second])
        metrics["second_attempt_length"] = _mean([_length(t) for t in second])
    return metrics


def episode_notes(episodes: Sequence[ExperientialEpisode]) -> tuple[str, ...]:
    """That every reflection of a step failed for one reason, and what it means."""
    failures = [episode.failure for episode in episodes if episode.reflects]
    if len(failures) < 2 or not failures[0] or len(set(failures)) > 1:
        return ()
    return (
        f"Every episode that was to reflect broke in this step, for one reason: {failures[0]}. "
        "Of such a step nothing is learned but first attempts.",
    )


def _length(trajectory: Trajectory) -> float:
    return float(sum(len(completion.token_ids) for completion in trajectory.completions))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
