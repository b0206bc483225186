"""Reading what an HTTP server answers, within a time and a size."""

import time
from http.client import HTTPResponse

LARGEST_REPLY = 2**24
"""Bytes."""

_PIECE = 2**16


def read_reply(response: HTTPResponse, deadline: float) -> bytes:
    """All of the response. The socket's own timeout only bounds the wait for its next piece.

    Args:
        deadline: On the clock of `time.monotonic`.

    Raises:
        OSError: it has more than `LARGEST_REPLY` bytes.
        TimeoutError: the deadline has passed.
    """
    body = bytearray()
    while piece := response.read1(_PIECE):
        body += piece
        if len(body) > LARGEST_REPLY:
            raise OSError(f"more than {LARGEST_REPLY} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)
