"""Length-prefixed messages between a process and its workers, with deadlines."""

import io
import pickle
import socket
import struct
import time
from typing import Any

LARGEST_REPLY = 2**24
"""Maximum size of a reply in bytes."""

_LENGTH = struct.Struct("<Q")
_PIECE = 2**20
_BUILTINS = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytearray)}


def send(connection: socket.socket, message: bytes, deadline: float | None = None) -> None:
    """Writes one message.

    Args:
        deadline: Deadline on the clock of `time.monotonic`; None: no deadline.

    Raises:
        TimeoutError: the deadline has passed.
        OSError: the other side is closed.
    """
    connection.settimeout(_left(deadline))
    connection.sendall(_LENGTH.pack(len(message)) + message)


def receive(
    connection: socket.socket, deadline: float | None = None, *, largest: int | None = None
) -> bytes:
    """Reads one message.

    Raises:
        TimeoutError: the deadline has passed.
        EOFError: the other side is closed.
        ValueError: the message has more than `largest` bytes.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline))
    if largest is not None and length > largest:
        raise ValueError(f"a message of {length} bytes")
    return _read(connection, length, deadline)


def plain_value(message: bytes) -> Any:
    """Unpickles `message`, which may hold numbers, strings, tuples, lists, sets and dicts only.

    Unpickling other types could run arbitrary code.

    Raises:
        pickle.UnpicklingError: `message` holds another type or is malformed.
    """
    try:
        return _PlainUnpickler(io.BytesIO(message)).load()
    except Exception as error:  # malformed bytes can raise any exception
        raise pickle.UnpicklingError(str(error)) from error


class PlainPickler(pickle.Pickler):
    """A pickler that writes NumPy scalars as Python numbers."""

    def reducer_override(self, value: Any) -> Any:
        """Reduces a NumPy scalar to a Python number."""
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            number = value.item()
            return type(number), (number,)
        return NotImplemented


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module != "builtins" or name not in _BUILTINS:
            raise pickle.UnpicklingError(f"{module}.{name} is not a plain value")
        return _BUILTINS[name]


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    received = bytearray()
    while len(received) < size:
        connection.settimeout(_left(deadline))
        try:
            piece = connection.recv(min(size - len(received), _PIECE))
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise EOFError("the other side is closed")
        received += piece
    return bytes(received)


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
