"""Weights in Ray's object store, from which every actor reads them.

    driver   put_weights(named tensors)   one tensor after another, in buckets
    actor    for name, tensor in stored   one bucket after another, mapped from the node's store

Weights are gathered and stored once, however many actors read them. They stay in the store, which
writes to disk what does not fit into memory, until the next ones replace them.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadyrl.records.weight_source import NamedTensors

BUCKET_BYTES = 256 << 20
"""Size at which a bucket is full. A larger tensor has a bucket of its own."""


@dataclass(slots=True, eq=False)
class StoredWeights(Mapping[str, Tensor]):
    """Weights by name, which must not be written to. One bucket is mapped at a time."""

    buckets: list["ray.ObjectRef"]
    places: dict[str, tuple[int, torch.dtype]]
    """Bucket and dtype of each weight, in the order in which they were stored."""

    _mapped: tuple[int, dict[str, Any]] | None = field(default=None, repr=False)
    """Number of the mapped bucket, and its NumPy arrays by name."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by name."""
        return self

    def __getitem__(self, name: str) -> Tensor:
        bucket, dtype = self.places[name]
        if self._mapped is None or self._mapped[0] != bucket:
            self._mapped = bucket, ray.get(self.buckets[bucket])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(self._mapped[1][name]).view(dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredWeights, (self.buckets, self.places)


def put_weights(
    weights: NamedTensors, put: Callable[[Any], "ray.ObjectRef"] = ray.put
) -> StoredWeights:
    """Stores `weights`, each of which is read once."""
    stored = StoredWeights([], {})
    for bucket in _buckets(weights):
        number = len(stored.buckets)
        stored.places |= {name: (number, tensor.dtype) for name, tensor in bucket.items()}
        stored.buckets.append(put({name: _as_numpy(tensor) for name, tensor in bucket.items()}))
    return stored


def _buckets(weights: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    bucket: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        if bucket and size + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, size = {}, 0
        bucket[name] = tensor.detach().to("cpu", copy=True)  # it is valid until the next one
        size += tensor.nbytes
    if bucket:
        yield bucket


def _as_numpy(tensor: Tensor) -> NDArray[Any]:
    """The bytes of a tensor in its shape: NumPy does not know every dtype."""
    tensor = tensor.contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy()
