"""Outcome of an episode in several parts: first attempt, reflection, second attempt."""

from dataclasses import asdict, dataclass, fields
from typing import Any

FIRST_ATTEMPT, REFLECTION, SECOND_ATTEMPT = "first_attempt", "reflection", "second_attempt"
"""Names of the parts of an episode."""

VERSION = 1
"""Format version of the field `episode` in completions files. Readers ignore unknown fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectedEpisode:
    """Outcome of one episode in parts. Each part is a trajectory and carries the same record.

    Example:
        ReflectedEpisode(number=12, reflects=True, recalled=(0,), internalized=True, remembered=0)
    """

    number: int
    """Index of the episode in the run. All parts of an episode have the same number."""

    reflects: bool
    """Whether the first attempt is followed by a reflection."""

    recalled: tuple[int, ...] = ()
    """Memory slots that the reflection read, best first. The content of a slot is its last write
    before this step."""

    internalized: bool = False
    """Whether the second attempt was trained on under the prompt of the task alone."""

    remembered: int | None = None
    """Memory slot that the reflection was written to; None: it was not stored."""

    failure: str = ""
    """Failure after the first attempt began; empty if there was none."""

    def as_field(self) -> dict[str, Any]:
        """The field `episode` of a row of a completions file."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_field(cls, field: Any) -> "ReflectedEpisode | None":
        """Reads the field `episode`; None if it is missing or has another format version."""
        if not isinstance(field, dict) or field.get("version") != VERSION:
            return None
        known = {item.name: field[item.name] for item in fields(cls) if item.name in field}
        return cls(**{**known, "recalled": tuple(known.get("recalled", ()))})
