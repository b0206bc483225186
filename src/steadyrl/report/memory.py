"""The history of an algorithm's memory."""

from collections.abc import Sequence

from steadyrl.records.run_folder import RunFolder
from steadyrl.report.rows import Row, read_rows


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


def read_writes(folder: RunFolder, stage: str) -> list[Write]:
    """The writes of `stage`, oldest first.

    Raises:
        UserError: one lacks its step, slot, task or text.
    """
    return [write for write in read_rows(Write, folder.memory) if write.stage == stage]


def memory_contents(writes: Sequence[Write], *, before: int | None = None) -> dict[int, Write]:
    """The contents of each slot, now or when the step `before` began."""
    return {write.slot: write for write in writes if before is None or write.step < before}


def split(writes: Sequence[Write]) -> tuple[list[Write], list[Write]]:
    """Current entries, newest first, and overwritten ones, oldest first."""
    present = sorted(memory_contents(writes).values(), key=lambda write: -write.step)
    still_there = {id(write) for write in present}
    return present, [write for write in writes if id(write) not in still_there]
