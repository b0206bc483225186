"""Distributed checkpoints: each rank writes its shards, and any number of ranks reads them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from steadyrl.base.errors import UserError, describe_error

WEIGHTS, MOMENTS = "weights", "trainer_state"
"""Folders of a checkpoint with the shards of the trained weights, and of their moments."""

METADATA = ".metadata"
"""File that makes a folder a distributed checkpoint."""


def save_shards(state: Mapping[str, Tensor], folder: Path) -> None:
    """Writes this rank's shards of `state`. Every rank must call this."""
    with _first_failure():
        save({name: value.detach() for name, value in state.items()}, checkpoint_id=folder)


@contextmanager
def _first_failure() -> Iterator[None]:
    """Raises what failed on a rank.

    PyTorch raises a collection of all failures, which is not an `Exception`: it would end the rank.
    """
    try:
        yield
    except CheckpointException as error:
        failure, _ = next(iter(error.failures.values()))
        raise failure from error


class BackgroundSaving:
    """Writes copies of shards in threads, beside what ranks compute. Every rank must have one.

    Args:
        limit: Maximum time until all is written.
    """

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._groups: dict[str, Any] = {}
        """Process groups through which the threads of all ranks agree, one for each folder."""
        self._writing: list[Any] = []

    def begin(self, states: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
        """Copies the shards of each state, and begins to write them to its folder in `folder`."""
        for name, state in states.items():
            if name not in self._groups:
                self._groups[name] = dist.new_group(backend="gloo", timeout=self._limit)
            values = {key: value.detach() for key, value in state.items()}
            writing = async_save(
                values, checkpoint_id=folder / name, process_group=self._groups[name]
            )
            self._writing.append(writing)

    @property
    def is_done(self) -> bool:
        """Whether this rank has written all that was begun."""
        return all(writing.done() for writing in self._writing)

    def finish(self) -> None:
        """Waits until it has."""
        writing, self._writing = self._writing, []
        with _first_failure():
            for each in writing:
                each.result(self._limit.total_seconds())


def load_shards(state: Mapping[str, Tensor], folder: Path) -> None:
    """Fills the tensors of `state` from the shards in `folder`.

    It is called by every rank, or by a process without ranks.

    Raises:
        UserError: names or shapes differ from those that were saved.
    """
    values: dict[str, Any] = {name: tensor.detach() for name, tensor in state.items()}
    try:
        _check(values, folder)
        load(values, checkpoint_id=folder)
    except (ValueError, RuntimeError, OSError, CheckpointException) as error:
        raise UserError(
            f"The checkpoint {folder.parent} holds another model than the run's configuration "
            f"describes, or is not whole: {describe_error(error)}. Resume a run with the "
            "configuration it began with."
        ) from error


def saved_sizes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each saved tensor by name."""
    saved = FileSystemReader(folder).read_metadata().state_dict_metadata
    return {
        name: tuple(tensor.size)
        for name, tensor in saved.items()
        if isinstance(tensor, TensorStorageMetadata)
    }


def _check(state: Mapping[str, Tensor], folder: Path) -> None:
    sizes = saved_sizes(folder)
    other = [name for name, value in state.items() if sizes.get(name) != tuple(value.shape)]
    other += sorted(sizes.keys() - state.keys())
    if other:
        raise ValueError(f"weights differ in name or shape, for example {other[0]}")
