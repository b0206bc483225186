"""Episodes, and groups of episodes that can be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.records.completion import Completion
from steadyrl.records.message import Message
from steadyrl.records.reflected_episode import ReflectedEpisode

ENVIRONMENT_FAILED = "environment failed"
"""How the reason begins when an episode was cut short by an exception of its environment."""

PROMPT_TOO_LONG = "prompt too long"
"""How the reason begins when an episode was not begun: its prompt leaves no room to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One episode: everything said, what the model sampled, and what it earned."""

    task_id: str

    messages: tuple[Message, ...]
    """The whole conversation, the model's turns included."""

    completions: tuple[Completion, ...]
    """The policy's turns as tokens, in order. None where another model wrote them, or where the
    episode was not begun."""

    reward: float

    reward_parts: Mapping[str, float] = field(default_factory=dict)
    """What the reward is made of, by name, where the environment says so."""

    feedback: str = ""
    """What the environment had to say in words."""

    terminated: bool
    """The environment reached its end."""

    truncated: bool
    """The episode was cut short; `truncation_reason` says by what."""

    truncation_reason: str = ""

    episode: ReflectedEpisode | None = None
    """What became of the episode that this is a part of; None for whole ones."""

    @property
    def environment_failed(self) -> bool:
        """Whether it broke on an exception of its environment, so that its reward means nothing."""
        return self.truncation_reason.startswith(ENVIRONMENT_FAILED)

    @property
    def prompt_too_long(self) -> bool:
        """Whether it was not begun, because its prompt leaves no room to answer."""
        return self.truncation_reason.startswith(PROMPT_TOO_LONG)

    @property
    def was_played(self) -> bool:
        """Whether its reward says something of the policy, so that it can be learned from."""
        return not (self.environment_failed or self.prompt_too_long)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Episodes of one task under one policy: their rewards can be compared."""

    task_id: str
    trajectories: tuple[Trajectory, ...]

    part: str = ""
    """Which part of a longer episode these are, such as `reflection`; empty for whole ones."""

    @property
    def rewards(self) -> Float[Tensor, " G"]:
        """The reward of each episode."""
        return torch.tensor([trajectory.reward for trajectory in self.trajectories])

    @property
    def sound(self) -> "Group":
        """The group without the episodes that their environment broke off."""
        sound = tuple(t for t in self.trajectories if not t.environment_failed)
        return replace(self, trajectories=sound)

    @property
    def played(self) -> "Group":
        """The group without the episodes from whose reward nothing can be learned."""
        return replace(self, trajectories=tuple(t for t in self.trajectories if t.was_played))

    @property
    def has_signal(self) -> bool:
        """Whether the rewards differ, so that a group baseline leaves an advantage."""
        return len({trajectory.reward for trajectory in self.trajectories}) > 1


def mean_reward_parts(episodes: Iterable[Trajectory], prefix: str) -> dict[str, float]:
    """`prefix/NAME`: the mean of each part of the rewards, over the episodes that have it."""
    values: dict[str, list[float]] = {}
    for episode in episodes:
        for name, part in episode.reward_parts.items():
            values.setdefault(f"{prefix}/{name}", []).append(part)
    return {name: fmean(values[name]) for name in sorted(values)}


def first_failure(failed: Sequence[Trajectory]) -> str:
    """Why the first of `failed` episodes failed, and what to do where all of them did.

    The cause may be the environment, the chat template, or a service that either asks.
    """
    reason = failed[0].truncation_reason.removeprefix(f"{ENVIRONMENT_FAILED}: ").rstrip(".")
    return f"The first one: {reason}. Correct the cause and run the command again."
