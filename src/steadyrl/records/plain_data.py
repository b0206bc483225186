"""Records as plain data, which `torch.save` writes and `torch.load` reads without running code.

    dataclass -> dict of its fields    tuple -> list    enum -> value    tensor -> tensor

Types are not stored: reading needs the class of the record.
"""

import io
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor


def to_bytes(record: object) -> bytes:
    """`record` as plain data. A tensor that it holds several times is written once."""
    buffer = io.BytesIO()
    torch.save(_to_plain(record, {}), buffer)
    return buffer.getvalue()


def from_bytes(kind: Any, data: bytes) -> Any:
    """The record that `to_bytes` wrote, with tensors on the CPU.

    Args:
        kind: Its type, such as `Rollout` or `dict[int, Rollout]`.
    """
    return _from_plain(kind, torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))


def _to_plain(value: Any, tensors: dict[int, Tensor]) -> Any:
    """`value` as plain data; `tensors` are copies of those met so far, by id.

    Copies, because a part of a larger tensor would be saved with all of it.
    """
    if isinstance(value, Tensor):
        return tensors.setdefault(id(value), value.detach().cpu().clone())
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {f.name: _to_plain(getattr(value, f.name), tensors) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _to_plain(each, tensors) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_to_plain(each, tensors) for each in value]
    assert isinstance(value, str | int | float | NoneType), f"{type(value).__name__} is not plain"
    return value


def _from_plain(kind: Any, plain: Any) -> Any:
    """The value of type `kind` whose plain data are given."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (only,) = [argument for argument in arguments if argument is not NoneType]
        return None if plain is None else _from_plain(only, plain)
    if origin is tuple:
        return tuple(_from_plain(arguments[0], each) for each in plain)
    if isinstance(plain, dict) and not is_dataclass(kind):
        return {key: _from_plain(arguments[1], each) for key, each in plain.items()}
    if is_dataclass(kind):
        make: Any = kind
        hints = get_type_hints(kind)
        return make(**{name: _from_plain(hints[name], each) for name, each in plain.items()})
    return kind(plain) if isinstance(kind, type) and issubclass(kind, Enum) else plain
