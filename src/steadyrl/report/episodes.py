"""Episodes of Experiential RL, put together from the parts that a run has recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.records.reflected_episode import (
    FIRST_ATTEMPT,
    REFLECTION,
    SECOND_ATTEMPT,
    ReflectedEpisode,
)
from steadyrl.records.run_folder import RunFolder, read_json_lines
from steadyrl.report.memory_record import Remembered, held


class Fate(StrEnum):
    """How an episode went, in the order in which they are shown."""

    IMPROVED = "reflecting helped"
    NOT_IMPROVED = "reflecting did not help"
    BROKEN = "broke"
    SOLVED = "nothing to reflect on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One entry of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An attempt or a reflection, as a conversation."""

    asked: tuple[Said, ...]
    """What stood there before the model's first turn."""

    went_on: tuple[Said, ...]
    """The model's first turn, and all that followed."""

    reward: float
    feedback: str
    truncation_reason: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any], origin: str) -> "Part":
        """The part that a row of a completions file holds; `origin` names the row in errors."""
        try:
            said = [
                Said(role=str(m["role"]), content=str(m["content"])) for m in row["conversation"]
            ]
            reward = float(row["reward"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{origin} holds no conversation with a reward ({type(error).__name__}: {error}). "
                "Remove that row, or the file, and report again."
            ) from error
        spoken = [number for number, message in enumerate(said) if message.role == "assistant"]
        first = spoken[0] if spoken else len(said)
        return cls(
            asked=tuple(said[:first]),
            went_on=tuple(said[first:]),
            reward=reward,
            feedback=row.get("feedback") or "",
            truncation_reason=row.get("truncation_reason") or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An episode with all its parts."""

    task_id: str
    story: ReflectedEpisode
    first: Part
    reflection: Part | None
    second: Part | None

    recalled: tuple[Remembered, ...]
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


def read_episodes(
    folder: RunFolder, stage: str, writes: Sequence[Remembered]
) -> dict[int, tuple[Episode, ...]]:
    """By step, one episode of each fate: of the first, a middle and the last step on record.

    Nothing for a run whose episodes have no parts.

    Raises:
        UserError: a part holds no conversation with a reward.
    """
    prefix = f"{stage}-"
    files = sorted(
        (int(path.stem.removeprefix(prefix)), path)
        for path in folder.completions.glob(f"{prefix}*.jsonl")
        if path.stem.removeprefix(prefix).isdigit()
    )
    places = sorted({0, len(files) // 2, len(files) - 1}) if files else []
    by_step = {
        step: _one_of_each(_episodes(path, held(writes, before=step)))
        for step, path in [files[place] for place in places]
    }
    return {step: episodes for step, episodes in by_step.items() if episodes}


def _episodes(path: Path, memory: Mapping[int, Remembered]) -> list[Episode]:
    """The episodes in a completions file, in the order of their first attempts."""
    parts: dict[int, dict[str, Part]] = {}
    found: dict[int, tuple[str, ReflectedEpisode]] = {}
    for line, row in enumerate(read_json_lines(path), start=1):
        story = ReflectedEpisode.from_field(row.get("episode"))
        if story is not None:
            found[story.number] = row["task_id"], story
            part = Part.from_row(row, f"Row {line} of {path}")
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


def _one_of_each(episodes: Sequence[Episode]) -> tuple[Episode, ...]:
    """The first episode of each fate, one that was remembered before one that was not."""
    by_fate: dict[Fate, Episode] = {}
    for episode in sorted(episodes, key=lambda e: e.story.remembered is None):
        by_fate.setdefault(episode.fate, episode)
    return tuple([by_fate[fate] for fate in Fate if fate in by_fate])
