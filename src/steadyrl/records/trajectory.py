"""Episodes, and groups of episodes with comparable rewards."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.records.completion import Completion
from steadyrl.records.message import Message
from steadyrl.records.reflected_episode import ReflectedEpisode
from steadyrl.records.truncation import ENVIRONMENT_FAILED, PROMPT_TOO_LONG


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One episode: its messages, the sampled tokens and the reward."""

    task_id: str

    messages: tuple[Message, ...]
    """The whole conversation, including the model's turns."""

    completions: tuple[Completion, ...]
    """The policy's turns as tokens, in order. Empty if another model wrote the turns, or if the
    episode was not started."""

    reward: float

    reward_parts: Mapping[str, float] = field(default_factory=dict)
    """Components of the reward by name, if the environment reports them."""

    feedback: str = ""
    """Feedback of the environment as text."""

    terminated: bool
    """Whether the environment ended the episode."""

    truncated: bool
    """Whether the episode was cut short, for the reason in `truncation_reason`."""

    truncation_reason: str = ""

    episode: ReflectedEpisode | None = None
    """Outcome of the whole episode if this trajectory is a part of it, else None."""

    @property
    def environment_failed(self) -> bool:
        """Whether the environment raised an exception, which makes the reward meaningless."""
        return self.truncation_reason.startswith(ENVIRONMENT_FAILED)

    @property
    def prompt_too_long(self) -> bool:
        """Whether the episode was not started, because its prompt leaves no room to respond."""
        return self.truncation_reason.startswith(PROMPT_TOO_LONG)

    @property
    def was_played(self) -> bool:
        """Whether the reward reflects the policy, so that the episode can be trained on."""
        return not (self.environment_failed or self.prompt_too_long)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Episodes of one task under one policy, whose rewards are comparable."""

    task_id: str
    trajectories: tuple[Trajectory, ...]

    part: str = ""
    """Part of a longer episode, such as `reflection`; empty for whole episodes."""

    @property
    def rewards(self) -> Float[Tensor, " G"]:
        """Reward of each episode."""
        return torch.tensor([trajectory.reward for trajectory in self.trajectories])

    @property
    def sound(self) -> "Group":
        """The group without episodes whose environment failed."""
        sound = tuple(t for t in self.trajectories if not t.environment_failed)
        return replace(self, trajectories=sound)

    @property
    def played(self) -> "Group":
        """The group without episodes that cannot be trained on."""
        return replace(self, trajectories=tuple(t for t in self.trajectories if t.was_played))

    @property
    def has_signal(self) -> bool:
        """Whether the rewards differ, so that advantages are non-zero."""
        return len({trajectory.reward for trajectory in self.trajectories}) > 1


def mean_reward_parts(episodes: Iterable[Trajectory], prefix: str) -> dict[str, float]:
    """Metrics `prefix/NAME`: mean of each reward component over the episodes that have it."""
    values: dict[str, list[float]] = {}
    for episode in episodes:
        for name, part in episode.reward_parts.items():
            values.setdefault(f"{prefix}/{name}", []).append(part)
    return {name: fmean(values[name]) for name in sorted(values)}


def first_failure(failed: Sequence[Trajectory]) -> str:
    """Sentences with the failure reason of the first of `failed` episodes, and a remedy.

    The cause may be the environment, the chat template, or a service that either of them calls.
    """
    reason = failed[0].truncation_reason.removeprefix(f"{ENVIRONMENT_FAILED}: ").rstrip(".")
    return f"The first one: {reason}. Fix the cause and run the command again."
