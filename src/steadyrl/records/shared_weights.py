"""Weights of the policy in a file that two processes map into their memory."""

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from steadyrl.base.errors import UserError

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each weight by name."""

_ALIGNMENT = 64


class SharedWeights:
    """Named tensors in a file: one process writes them, the other reads them.

    Args:
        path: The file, created and extended as needed.

    Raises:
        UserError: the disk has no room for it.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        starts, size = {}, 0
        for name, (shape, dtype) in layout.items():
            starts[name] = size
            size += -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        _take_room(path, size)
        memory = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
        self.tensors: dict[str, Tensor] = {}
        for name, (shape, dtype) in layout.items():
            end = starts[name] + math.prod(shape) * dtype.itemsize
            self.tensors[name] = memory[starts[name] : end].view(dtype).view(shape)

    @torch.no_grad()
    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Copies `weights` to the file."""
        for name, target in self.tensors.items():
            target.copy_(weights[name])


def _take_room(path: Path, size: int) -> None:
    """Takes the room of a file on the disk, where the system can.

    A page of a mapped file that finds no room when it is written ends the process.
    """
    if not hasattr(os, "posix_fallocate") or size == 0:
        return
    try:
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return  # the file system cannot tell
        raise UserError(
            f"The folder for temporary files, {path.parents[1]}, has no room for {size / 1e9:.3g} "
            f"GB of weights: {error.strerror}. Free some space, or set TMPDIR to another folder, "
            "and run the command again."
        ) from error


class WeightFiles:
    """Files of shared weights in one folder, by name. Each is mapped when it is first used."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._layout = folder, layout
        self._mapped: dict[str, SharedWeights] = {}

    def __getitem__(self, name: str) -> SharedWeights:
        if name not in self._mapped:
            self._mapped[name] = SharedWeights(self._folder / name, self._layout)
        return self._mapped[name]


def layout_of(weights: Mapping[str, Tensor]) -> Layout:
    """Shape and type of each of `weights`."""
    return {name: (tuple(weight.shape), weight.dtype) for name, weight in weights.items()}
