"""TensorBoard event files.

A record is its length (8 bytes), a checksum of that (4), an event, and a checksum of the event (4).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from steadyrl.analysis.foreign.log import Log, LogRow
from steadyrl.base.text_files import open_bytes
from steadyrl.base.wording import count

Read = Callable[[int], bytes]
"""Reads a number of bytes."""

CHECKED = 4096
"""Bytes up to which an event is checked by its checksum. Those of scalars are shorter."""


def is_event_file(path: Path) -> bool:
    """Whether the file has the name of an event file."""
    return "tfevents" in path.name


def read_events(paths: Iterable[Path]) -> Log:
    """The scalars of event files, the oldest file first. One that was cut off is read to there."""
    rows: list[LogRow] = []
    remarks: list[str] = []
    for path in sorted(paths, key=lambda p: p.name):
        with open_bytes(path) as file:
            rows += _rows(file.read, path.name, remarks)
    return Log(layout="TensorBoard events", rows=tuple(rows), remarks=tuple(remarks))


def _rows(read: Read, name: str, remarks: list[str]) -> Iterator[LogRow]:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.util.tensor_util import make_ndarray

    damaged = 0
    for data, checksum in _records(read, name, remarks):
        try:
            if len(data) <= CHECKED and masked_crc32c(data) != checksum:
                raise DecodeError
            event = Event.FromString(data)
        except DecodeError:
            damaged += 1
            continue
        scalars = {}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars[value.tag] = float(value.simple_value)
            tensor = make_ndarray(value.tensor) if value.HasField("tensor") else None
            if tensor is not None and tensor.size == 1 and tensor.dtype.kind in "fiu":
                scalars[value.tag] = float(tensor.reshape(()))
        if scalars:
            yield LogRow(values=scalars, step=event.step)
    if damaged:
        remarks.append(f"{count(damaged, 'record')} of {name} left out: damaged.")


def _records(read: Read, name: str, remarks: list[str]) -> Iterator[tuple[bytes, int]]:
    """Each record with its checksum, up to one that was cut off."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    while len(head := read(12)) == 12 and any(head):  # zeros are space for what comes
        length = int.from_bytes(head[:8], "little")
        if masked_crc32c(head[:8]) != int.from_bytes(head[8:], "little"):
            remarks.append(f"What follows a damaged record of {name} is left out.")
            return
        data, checksum = read(length), read(4)
        if len(checksum) < 4:
            return
        yield data, int.from_bytes(checksum, "little")
