"""Episodes of Experiential RL, assembled from the recorded parts of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from steadyrl.records.reflected_episode import (
    FIRST_ATTEMPT,
    REFLECTION,
    SECOND_ATTEMPT,
    ReflectedEpisode,
)
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.memory import Write, memory_contents
from steadyrl.report.rows import Row, completions_by_step, read_rows


class Fate(StrEnum):
    """Kinds of episodes, in display order."""

    IMPROVED = "second attempt earned more"
    NOT_IMPROVED = "second attempt did not earn more"
    BROKEN = "failed"
    SOLVED = "nothing to reflect on"


class Message(Row):
    """One entry of a conversation."""

    role: str
    content: str


class Part(Row):
    """An attempt or a reflection, as a conversation."""

    task_id: str
    conversation: list[Message]
    reward: float
    part: str = ""
    feedback: str = ""
    truncation_reason: str = ""

    episode: dict[str, Any] | None = None

    @property
    def record(self) -> ReflectedEpisode | None:
        """The episode that this is a part of; None if it stands alone."""
        return ReflectedEpisode.from_field(self.episode)

    @property
    def prompt(self) -> list[Message]:
        """The text before the model's first turn."""
        return self.conversation[: self._first_turn()]

    @property
    def response(self) -> list[Message]:
        """The model's first turn and everything after it."""
        return self.conversation[self._first_turn() :]

    def _first_turn(self) -> int:
        roles = [message.role for message in self.conversation]
        return roles.index("assistant") if "assistant" in roles else len(roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An episode with all its parts."""

    task_id: str
    record: ReflectedEpisode
    first: Part
    reflection: Part | None
    second: Part | None

    recalled: tuple[Write, ...]
    """Memory entries that the reflection read, best first."""

    @property
    def fate(self) -> Fate:
        """The kind of the episode."""
        if self.record.failure:
            return Fate.BROKEN
        if self.second is None:
            return Fate.SOLVED
        improved = self.second.reward > self.first.reward
        return Fate.IMPROVED if improved else Fate.NOT_IMPROVED

    @property
    def outcome(self) -> str:
        """Whether it was internalized, and where it was remembered."""
        if self.record.failure:
            return f"Failed: {self.record.failure}. Later parts are not trained on."
        if self.second is None:
            return "No reflection. Only the first attempt is trained on."
        learned = "Not internalized."
        if self.record.internalized:
            learned = "Internalized: trained on with the task alone as the prompt."
        if self.record.remembered is None:
            return f"{learned} Not stored in the memory."
        return (
            f"{learned} The reflection was stored in slot {self.record.remembered} of the memory."
        )


def read_episodes(
    folder: RunFolder, stage: str, writes: Sequence[Write]
) -> tuple[tuple[int, Episode], ...]:
    """One episode of each fate, with its step: of the first, a middle and the last recorded step.

    Empty for a run whose episodes have no parts.

    Raises:
        UserError: a part has no conversation or no reward.
    """
    files = completions_by_step(folder, stage)
    places = sorted({0, len(files) // 2, len(files) - 1}) if files else []
    return tuple(
        (step, episode)
        for step, path in [files[place] for place in places]
        for episode in _one_of_each(_episodes(path, memory_contents(writes, before=step)))
    )


def _episodes(path: Path, memory: Mapping[int, Write]) -> list[Episode]:
    """The episodes in a completions file, in the order of their first parts."""
    parts: dict[int, dict[str, Part]] = {}
    for part in read_rows(Part, path):
        if part.record is not None:
            parts.setdefault(part.record.number, {})[part.part] = part
    return [_episode(of, memory) for of in parts.values() if FIRST_ATTEMPT in of]


def _episode(parts: Mapping[str, Part], memory: Mapping[int, Write]) -> Episode:
    first = parts[FIRST_ATTEMPT]
    assert first.record is not None
    return Episode(
        task_id=first.task_id,
        record=first.record,
        first=first,
        reflection=parts.get(REFLECTION),
        second=parts.get(SECOND_ATTEMPT),
        recalled=tuple([memory[slot] for slot in first.record.recalled if slot in memory]),
    )


def _one_of_each(episodes: Sequence[Episode]) -> list[Episode]:
    """The first episode of each fate, one that was remembered before one that was not."""
    by_fate: dict[Fate, Episode] = {}
    for episode in sorted(episodes, key=lambda e: e.record.remembered is None):
        by_fate.setdefault(episode.fate, episode)
    return [by_fate[fate] for fate in Fate if fate in by_fate]
