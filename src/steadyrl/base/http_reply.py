"""Reading HTTP responses within limits on time and size."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPResponse
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

Reply = TypeVar("Reply")

LARGEST_REPLY = 2**24
"""Maximum size of a response body in bytes."""

_PIECE = 2**16


def within(seconds: float, ask: Callable[[], Reply]) -> Reply:
    """Calls `ask` in a daemon thread with a deadline and returns its result.

    A socket timeout only bounds the wait for the next chunk. It covers neither DNS lookup nor a
    server that sends its headers byte by byte.

    Raises:
        TimeoutError: the call takes longer than `seconds`. Exceptions of `ask` are passed through.
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
    """Reads the whole response body.

    Args:
        deadline: Deadline on the clock of `time.monotonic`. The socket timeout only bounds the wait
            for the next chunk.

    Raises:
        OSError: the body has more than `LARGEST_REPLY` bytes.
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
