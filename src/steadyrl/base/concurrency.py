"""Helpers for running coroutines concurrently and blocking calls in threads."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")

ENDS_WITHIN = 5.0
"""Seconds that canceled coroutines have to clean up."""


async def concurrently(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Runs `coroutines` concurrently and returns their results in order.

    The first exception cancels the others and is raised.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except (Exception, asyncio.CancelledError):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=ENDS_WITHIN)
        raise


class PerLoop(Generic[Result]):
    """A lock or semaphore for each event loop, made on first use: none works in two loops.

    Example:
        slots = PerLoop(lambda: asyncio.Semaphore(8))
        async with slots():
            ...
    """

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._value: Result

    def __call__(self) -> Result:
        """The value of the running loop."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._value = loop, self._make()
        return self._value


async def await_if_needed(answer: Result | Awaitable[Result]) -> Result:
    """Returns `answer`, awaited first if it is awaitable."""
    if isawaitable(answer):
        return await answer
    return answer


def apply_when_done(
    answer: Given | Awaitable[Given], use: Callable[[Given], Result]
) -> Result | Awaitable[Result]:
    """Applies `use` to `answer`: immediately, or as a coroutine if `answer` is awaitable."""
    if isawaitable(answer):
        return _used(answer, use)
    return use(answer)


async def _used(answer: Awaitable[Given], use: Callable[[Given], Result]) -> Result:
    return use(await answer)


async def in_thread(function: Callable[[], Result]) -> Result:
    """Calls `function` in its own daemon thread; returns or raises its outcome.

    A call that never returns does not block anything: its thread is not joined, not even when the
    process exits.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Callable[[], Result]] = loop.create_future()

    def settle(result: Callable[[], Result]) -> None:
        if not outcome.done():
            outcome.set_result(result)

    def call() -> None:
        result = _outcome_of(function)
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=contextvars.copy_context().run, args=(call,), daemon=True).start()
    return (await outcome)()


def _outcome_of(function: Callable[[], Result]) -> Callable[[], Result]:
    """A function that returns or raises the outcome of calling `function` once."""
    try:
        result = function()
    except BaseException as error:
        raised = error

        def fail() -> Result:
            raise raised

        return fail
    return lambda: result


def is_being_cancelled(error: BaseException) -> bool:
    """Whether `error` cancels the current task, rather than a task that it was waiting for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
