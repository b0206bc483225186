"""Calls of code that may block, with a limit in seconds.

A call that takes too long goes on in its thread, which cannot be stopped, but nothing waits for it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from steadyrl.base.concurrency import in_thread

Result = TypeVar("Result")


class SlowCallError(RuntimeError):
    """A call took longer than its limit."""


def call_within(seconds: float | None, call: Callable[[], Result]) -> Result:
    """Result of `call`, which runs in a thread; None: in this one, without a limit.

    Raises:
        SlowCallError: it takes more than `seconds`. Exceptions of the call are passed through.
    """
    if seconds is None:
        return call()
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # for the thread that waits
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise _too_slow(seconds) from error


async def await_within(seconds: float, call: Callable[[], Result]) -> Result:
    """Result of `call`, which runs in a thread while other coroutines continue.

    Raises:
        SlowCallError: it takes more than `seconds`. Exceptions of the call are passed through.
    """
    try:
        async with asyncio.timeout(seconds) as running:
            return await in_thread(call)
    except TimeoutError as error:
        if not running.expired():
            raise
        raise _too_slow(seconds) from error


def _too_slow(seconds: float) -> SlowCallError:
    return SlowCallError(
        f"a call took more than {seconds:g} s. Raise environment.timeout if it may"
    )
