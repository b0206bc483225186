"""Messages between the driver and its actors: pickled as between processes, with Ray's references.

    pack(message) -> (bytes, references)        unpack(bytes, references) -> message

References travel beside the bytes, as arguments of a call, so that Ray counts who holds an object.
"""

import io
import pickle
from typing import Any

import ray

from steadyrl.base.worker_process import TensorPickler

Packed = tuple[bytes, list["ray.ObjectRef"]]


class _Pickler(TensorPickler):
    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, protocol=5)
        self.references: list[ray.ObjectRef] = []

    def persistent_id(self, obj: Any) -> int | None:
        """The place of a reference beside the bytes."""
        if not isinstance(obj, ray.ObjectRef):
            return None
        self.references.append(obj)
        return len(self.references) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, references: list["ray.ObjectRef"]) -> None:
        super().__init__(buffer)
        self._references = references

    def persistent_load(self, pid: int) -> "ray.ObjectRef":
        """The reference at a place."""
        return self._references[pid]


def pack(message: Any) -> Packed:
    """A message as bytes, and the references in it."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(message)
    return buffer.getvalue(), pickler.references


def unpack(data: bytes, references: list["ray.ObjectRef"]) -> Any:
    """The message that was packed."""
    return _Unpickler(io.BytesIO(data), references).load()
