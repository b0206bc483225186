"""Reading what an HTTP server answers, within a time and a size."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPResponse
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

Reply = TypeVar("Reply")

LARGEST_REPLY = 2**24
"""Bytes."""

_PIECE = 2**16


def within(seconds: float, ask: Callable[[], Reply]) -> Reply:
    """What `ask` returns, in a thread that is left behind where it takes longer.

    The timeout of a socket bounds the wait for its next piece alone, and neither the lookup of a
    name nor a server that sends its headers byte by byte.

    Raises:
        TimeoutError: it takes longer. What `ask` raises goes through.
    """
    outcome: SimpleQueue[Future[Reply]] = SimpleQueue()

    def run() -> None:
        asked: Future[Reply] = Future()
        try:
            asked.set_result(ask())
        except BaseException as error:
            asked.set_exception(error)
        outcome.put(asked)

    Thread(target=run, daemon=True).start()
    try:
        return outcome.get(timeout=seconds).result()
    except Empty:
        raise TimeoutError from None


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
