"""A write to an algorithm's memory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWrite:
    """A text written to a slot of an algorithm's memory.

    Example:
        MemoryWrite(slot=0, task_id="frozen_lake/train/3", text="@A GB HC FD")
    """

    slot: int
    """Slot that holds the text. Its previous content is overwritten."""

    task_id: str
    """Task on which the text was successful."""

    text: str
