"""Episodes of Experiential RL, put together from the parts that a run has recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from steadyrl.records.reflected_episode import (
    FIRST_ATTEMPT,
    REFLECTION,
    SECOND_ATTEMPT,
    ReflectedEpisode,
)
from steadyrl.records.run_folder import RunFolder, read_json_lines
from steadyrl.report.memory import Write, held
from steadyrl.report.rows import Row, checked, completions_by_step


class Fate(StrEnum):
    """How an episode went, in the order in which they are shown."""

    IMPROVED = "reflecting helped"
    NOT_IMPROVED = "reflecting did not help"
    BROKEN = "broke"
    SOLVED = "nothing to reflect on"


class Message(Row):
    """One entry of a conversation."""

    role: str
    content: str


class Part(Row):
    """An attempt or a reflection, as a conversation."""

    conversation: list[Message]
    reward: float
    feedback: str = ""
    truncation_reason: str = ""

    @property
    def asked(self) -> list[Message]:
        """What stands before the model's first turn."""
        return self.conversation[: self._first_turn()]

    @property
    def followed(self) -> list[Message]:
        """The model's first turn and everything after it."""
        return self.conversation[self._first_turn() :]

    def _first_turn(self) -> int:
        roles = [message.role for message in self.conversation]
        return roles.index("assistant") if "assistant" in roles else len(roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An episode with all its parts."""

    task_id: str
    story: ReflectedEpisode
    first: Part
    reflection: Part | None
    second: Part | None

    recalled: tuple[Write, ...]
    """What the reflection read of the memory, best first."""

    @property
    def fate(self) -> Fate:
        """How it went."""
        if self.story.failure:
            return Fate.BROKEN
        if self.second is None:
            return Fate.SOLVED
        improved = self.second.reward > self.first.reward
        return Fate.IMPROVED if improved else Fate.NOT_IMPROVED

    @property
    def outcome(self) -> str:
        """What was learned from it and what was remembered."""
        if self.story.failure:
            return f"It broke: {self.story.failure}. Nothing after that is learned from."
        if self.second is None:
            return "The first attempt was not reflected on; it alone is learned from."
        learned = "Not internalized."
        if self.story.internalized:
            learned = "Internalized: learned with the task alone as the prompt."
        if self.story.remembered is None:
            return f"{learned} Not stored in the memory."
        return f"{learned} The reflection was stored in slot {self.story.remembered} of the memory."


def read_episodes(
    folder: RunFolder, stage: str, writes: Sequence[Write]
) -> tuple[tuple[int, Episode], ...]:
    """One episode of each fate, with its step: of the first, a middle and the last step on record.

    Nothing for a run whose episodes have no parts.

    Raises:
        UserError: a part has no conversation or no reward.
    """
    files = completions_by_step(folder, stage)
    places = sorted({0, len(files) // 2, len(files) - 1}) if files else []
    return tuple(
        (step, episode)
        for step, path in [files[place] for place in places]
        for episode in _one_of_each(_episodes(path, held(writes, before=step)))
    )


def _episodes(path: Path, memory: Mapping[int, Write]) -> list[Episode]:
    """The episodes in a completions file, in the order of their first attempts."""
    parts: dict[int, dict[str, Part]] = {}
    found: dict[int, tuple[str, ReflectedEpisode]] = {}
    for line, row in enumerate(read_json_lines(path), start=1):
        story = ReflectedEpisode.from_field(row.get("episode"))
        if story is not None:
            found[story.number] = row["task_id"], story
            part = checked(Part, row, f"Row {line} of {path}")
            parts.setdefault(story.number, {})[row["part"]] = part
    return [
        Episode(
            task_id=task_id,
            story=story,
            first=parts[number][FIRST_ATTEMPT],
            reflection=parts[number].get(REFLECTION),
            second=parts[number].get(SECOND_ATTEMPT),
            recalled=tuple([memory[slot] for slot in story.recalled if slot in memory]),
        )
        for number, (task_id, story) in found.items()
        if FIRST_ATTEMPT in parts[number]
    ]


def _one_of_each(episodes: Sequence[Episode]) -> list[Episode]:
    """The first episode of each fate, one that was remembered before one that was not."""
    by_fate: dict[Fate, Episode] = {}
    for episode in sorted(episodes, key=lambda e: e.story.remembered is None):
        by_fate.setdefault(episode.fate, episode)
    return [by_fate[fate] for fate in Fate if fate in by_fate]
