"""What became of an episode of several parts: attempt, reflection, second attempt."""

from dataclasses import asdict, dataclass, fields
from typing import Any

FIRST_ATTEMPT, REFLECTION, SECOND_ATTEMPT = "first_attempt", "reflection", "second_attempt"
"""Names of the parts of an episode."""

VERSION = 1
"""Of the form in which completions files hold it. A reader leaves out what it does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectedEpisode:
    """The story of one episode. Every part of it, a trajectory of its own, carries the same.

    Example:
        ReflectedEpisode(number=12, reflects=True, recalled=(0,), internalized=True, remembered=0)
    """

    number: int
    """Position among all episodes of the run. Parts of one episode share it."""

    reflects: bool
    """Whether the first attempt was to be reflected on."""

    recalled: tuple[int, ...] = ()
    """Slots of the memory that the reflection read, best first. Each held what was written to it
    last before this step."""

    internalized: bool = False
    """Whether the episode was learned from under the task alone."""

    remembered: int | None = None
    """Slot of the memory that the reflection was written to; None when it was not."""

    failure: str = ""
    """What broke after the first attempt began; empty when all went as it should."""

    def as_field(self) -> dict[str, Any]:
        """The field `episode` of a row of a completions file."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_field(cls, field: Any) -> "ReflectedEpisode | None":
        """The story that such a field holds; None where there is none, or one of another form."""
        if not isinstance(field, dict) or field.get("version") != VERSION:
            return None
        known = {item.name: field[item.name] for item in fields(cls) if item.name in field}
        return cls(**{**known, "recalled": tuple(known.get("recalled", ()))})
