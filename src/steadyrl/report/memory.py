"""What an algorithm has written into its memory, and what it held when."""

from collections.abc import Sequence
from dataclasses import dataclass

from steadyrl.records.run_folder import RunFolder
from steadyrl.report.rows import Row, checked

TEXTS_SHOWN = 8


class Write(Row):
    """One write into the memory.

    Example:
        Write(step=3, slot=0, task_id="frozen_lake/train/3", text="@A GB HC FD")
    """

    step: int
    slot: int
    task_id: str
    text: str
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Everything that a stage has written, and what of it a page shows."""

    writes: tuple[Write, ...]
    """Oldest first."""

    @property
    def present(self) -> list[Write]:
        """What the memory holds, newest first."""
        return sorted(held(self.writes).values(), key=lambda write: -write.step)

    @property
    def earlier(self) -> list[Write]:
        """What was overwritten, oldest first."""
        present = {id(write) for write in self.present}
        return [write for write in self.writes if id(write) not in present]

    @property
    def earlier_shown(self) -> list[Write]:
        """Some of what was overwritten, evenly from the first to the last."""
        earlier = self.earlier
        many = min(TEXTS_SHOWN, len(earlier))
        places = {place * (len(earlier) - 1) // max(1, many - 1) for place in range(many)}
        return [earlier[place] for place in sorted(places)]


def read_writes(folder: RunFolder, stage: str) -> tuple[Write, ...]:
    """The writes of `stage`, oldest first.

    Raises:
        UserError: one lacks its step, slot, task or text.
    """
    rows = enumerate(folder.read_memory(), start=1)
    writes = [checked(Write, row, f"Row {number} of {folder.memory}") for number, row in rows]
    return tuple([write for write in writes if write.stage == stage])


def held(writes: Sequence[Write], *, before: int | None = None) -> dict[int, Write]:
    """What each slot holds, or held when the step `before` began."""
    return {write.slot: write for write in writes if before is None or write.step < before}
