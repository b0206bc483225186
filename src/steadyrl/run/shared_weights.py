"""The policy's weights in a file that two processes map into their memory."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each weight, by name."""

_ALIGNMENT = 64


class SharedWeights:
    """Named tensors over one file: what one process writes into them, the other reads.

    Args:
        path: The file, made and lengthened as needed.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        places, size = {}, 0
        for name, (shape, dtype) in layout.items():
            places[name] = size
            size += -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        memory = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
        self.tensors: dict[str, Tensor] = {}
        for name, (shape, dtype) in layout.items():
            end = places[name] + math.prod(shape) * dtype.itemsize
            self.tensors[name] = memory[places[name] : end].view(dtype).view(shape)

    @torch.no_grad()
    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Copies `weights` into the file."""
        for name, target in self.tensors.items():
            target.copy_(weights[name])


def layout_of(weights: Mapping[str, Tensor]) -> Layout:
    """Shape and type of each of `weights`."""
    return {name: (tuple(weight.shape), weight.dtype) for name, weight in weights.items()}
