"""Episodes of Experiential RL: an attempt, and possibly a reflection and a second attempt."""

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
    """State of an episode.

    Example:
        ExperientialEpisode(number=0, task_index=0, task=task, first_attempt=trajectory,
                            reflects=True)
    """

    number: int
    """Index of the episode in the run."""

    task_index: int
    """Index of its task in the step."""

    task: Task
    first_attempt: Trajectory

    reflects: bool
    """Whether the first attempt is followed by a reflection."""

    recalled: tuple[MemoryEntry, ...] = ()
    """Memory entries that the reflection read."""

    reflection: Reflection | None = None
    """None also if the settings disable reflections."""

    guided_task: Task | None = None
    """Task with the prompt of the second attempt."""

    second_attempt: Trajectory | None = None

    memory_write: MemoryWrite | None = None
    """Memory write of the reflection; None if it was not stored."""

    failure: str = ""
    """Reason of a failure, after which nothing is trained on; empty if there is none."""

    @property
    def second_reward(self) -> float | None:
        """r2; None if there is no second attempt, or the environment failed in it."""
        if self.second_attempt is None or self.second_attempt.environment_failed:
            return None
        return self.second_attempt.reward

    @property
    def last_reward(self) -> float:
        """r2 if there is one, else r1."""
        return self.first_attempt.reward if self.second_reward is None else self.second_reward

    @property
    def succeeds(self) -> bool:
        """Whether the second attempt earned a reward, so that it can be internalized."""
        return (self.second_reward or 0.0) > 0

    def drop_payloads(self) -> None:
        """Drops what only the environment reads, so that the finished episode can be pickled."""
        self.task = _without_payload(self.task)
        self.guided_task = None if self.guided_task is None else _without_payload(self.guided_task)

    def to_record(self, *, internalizes: bool) -> ReflectedEpisode:
        """Record of the episode's outcome."""
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
        """The reflection as a trajectory with reward r2; None if there is none."""
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
    """Trajectories that `pick` returns, grouped by task in the order of tasks."""
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
    """All sampled groups, failures included, with records: by part, in the order of tasks."""

    def with_record(episode: ExperientialEpisode, part: Trajectory | None) -> Trajectory | None:
        record = episode.to_record(internalizes=internalizes)
        return None if part is None else replace(part, episode=record)

    return [
        *group_by_task(episodes, FIRST_ATTEMPT, lambda e: with_record(e, e.first_attempt)),
        *group_by_task(episodes, REFLECTION, lambda e: with_record(e, e.reflection_trajectory)),
        *group_by_task(episodes, SECOND_ATTEMPT, lambda e: with_record(e, e.second_attempt)),
    ]


def episode_metrics(episodes: Sequence[ExperientialEpisode]) -> dict[str, float]:
    """Rewards and frequencies of the parts of the episodes.

    Rewards exclude episodes whose environment failed in the first attempt, and are missing if all
    did.
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
    """A note if all reflections of a step failed for the same reason."""
    failures = [episode.failure for episode in episodes if episode.reflects]
    if len(failures) < 2 or not failures[0] or len(set(failures)) > 1:
        return ()
    return (
        f"All reflections of this step failed for the same reason: {failures[0]}. Only its first "
        "attempts are trained on.",
    )


def _without_payload(task: Task) -> Task:
    """A plain task with the same prompt."""
    return Task(id=task.id, prompt=task.prompt, payload=None, tools=task.tools)


def _length(trajectory: Trajectory) -> float:
    return float(sum(len(completion.token_ids) for completion in trajectory.completions))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
