"""What an algorithm has written into its memory, and what stood there when."""

from collections.abc import Sequence
from dataclasses import dataclass

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """One write.

    Example:
        Remembered(step=3, slot=0, task_id="frozen_lake/train/3", text="@A GB HC FD")
    """

    step: int
    slot: int
    task_id: str
    text: str


def read_writes(folder: RunFolder, stage: str) -> tuple[Remembered, ...]:
    """The writes of `stage`, oldest first.

    Raises:
        UserError: one lacks its step, slot, task or text.
    """
    kinds = {"step": int, "slot": int, "task_id": str, "text": str}
    writes = []
    for number, row in enumerate(folder.read_memory(), start=1):
        for name, kind in kinds.items():
            if not isinstance(row.get(name), kind):
                raise UserError(
                    f'Row {number} of {folder.memory} has no usable "{name}", got '
                    f"{row.get(name)!r}. Remove that row, or the file, and report again."
                )
        if row.get("stage") == stage:
            writes.append(Remembered(**{name: row[name] for name in kinds}))
    return tuple(writes)


def held(writes: Sequence[Remembered], *, before: int | None = None) -> dict[int, Remembered]:
    """What each slot holds, or held when the step `before` began."""
    return {write.slot: write for write in writes if before is None or write.step < before}
