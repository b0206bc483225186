"""TensorBoard event files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from steadyrl.analysis.foreign.log import Log, LogRow


def is_event_file(path: Path) -> bool:
    """Whether the file has the name of an event file."""
    return "tfevents" in path.name


def read_events(paths: Iterable[Path]) -> Log:
    """The scalars of event files, the oldest file first. One that was cut off is read to there."""
    rows = tuple([row for path in sorted(paths, key=lambda p: p.name) for row in _rows(path)])
    return Log(layout="TensorBoard events", rows=rows)


def _rows(path: Path) -> Iterator[LogRow]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    for event in EventFileLoader(str(path)).Load():
        scalars = {}
        for value in event.summary.value:
            tensor = make_ndarray(value.tensor) if value.HasField("tensor") else None
            if tensor is not None and tensor.size == 1 and tensor.dtype.kind in "fiu":
                scalars[value.tag] = float(tensor.reshape(()))
        if scalars:
            yield LogRow(values=scalars, step=event.step)
