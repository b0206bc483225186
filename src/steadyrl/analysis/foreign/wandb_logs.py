"""Runs of W&B that lie on disk: the `.wandb` file of an offline or an online run.

The file is a header and a log of records in the format of LevelDB: blocks of 32 KiB, in which a
record has a checksum (4 bytes), its length (2), and whether it is whole or the first, a middle or
the last part (1). W&B's own package decodes the records.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steadyrl.analysis.foreign.log import Log, LogRow, numbers_in, to_step
from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra

MAGIC = b":W&B"
HEADER, BLOCK, PREFIX = 7, 32 * 1024, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def is_wandb_file(path: Path) -> bool:
    """Whether the file begins as W&B's do."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_wandb(path: Path) -> Log:
    """The history of a run. A record that was cut off ends it.

    Raises:
        UserError: wandb is not installed, or cannot decode a record.
    """
    require_extra("wandb", "wandb")
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    try:
        for data in records_of(path.read_bytes()):
            record = Record.FromString(data)
            if record.HasField("history"):
                rows.append(_row(record.history))
    except DecodeError as error:
        raise UserError(
            f"A record of {path} is not one that the installed wandb knows ({error}). Install the "
            "version that wrote it, or export the run's history as CSV."
        ) from error
    return Log(layout="a W&B run", rows=tuple(rows))


def records_of(data: bytes) -> Iterator[bytes]:
    """The records of the file `data`, up to one that was cut off."""
    place, parts = HEADER, b""
    while place + PREFIX <= len(data):
        left = BLOCK - place % BLOCK
        if left < PREFIX:  # padding
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part = data[place + PREFIX : place + PREFIX + length]
        if len(part) < length or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        parts = part if kind in (WHOLE, FIRST) else parts + part
        if kind in (WHOLE, LAST):
            yield parts
        place += PREFIX + length


def _row(history: Any) -> LogRow:
    values = {}
    for item in history.item:
        name = item.key or "/".join(item.nested_key)
        try:
            values[name] = json.loads(item.value_json)
        except json.JSONDecodeError:
            continue
    step = to_step(values.get("_step", history.step.num))
    return LogRow(values=numbers_in(values.items()), step=step)
