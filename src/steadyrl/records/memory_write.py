"""One entry into an algorithm's memory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWrite:
    """A text that is remembered from now on.

    Example:
        MemoryWrite(slot=0, task_id="frozen_lake/train/3", text="@A GB HC FD")
    """

    slot: int
    """Where it is kept. What was kept there before is forgotten."""

    task_id: str
    """The task on which it proved itself."""

    text: str
