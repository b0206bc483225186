"""Distributed checkpoints: each rank writes its shards, and any number of ranks reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from steadyrl.base.errors import UserError, describe_error

WEIGHTS, MOMENTS = "weights", "trainer_state"
"""Folders of a checkpoint with the shards of the trained weights, and of their moments."""

METADATA = ".metadata"
"""File that makes a folder a distributed checkpoint."""


def save_shards(state: Mapping[str, Tensor], folder: Path) -> None:
    """Writes this rank's shards of `state`. Every rank must call this."""
    save({name: value.detach() for name, value in state.items()}, checkpoint_id=folder)


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
