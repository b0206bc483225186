"""Coroutines side by side, and calls that block beside them."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from inspect import isawaitable
from typing import Any, TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")

ENDS_WITHIN = 5.0
"""Seconds that cancelled coroutines may take to clean up."""


async def concurrently(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Runs `coroutines` side by side, and returns their results in order.

    The first exception cancels the others, and is raised.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except (Exception, asyncio.CancelledError):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=ENDS_WITHIN)
        raise


async def await_if_needed(answer: Result | Awaitable[Result]) -> Result:
    """`answer` of a function that may be a coroutine function."""
    if isawaitable(answer):
        return await answer
    return answer


def then(
    answer: Given | Awaitable[Given], use: Callable[[Given], Result]
) -> Result | Awaitable[Result]:
    """What `use` makes of `answer`: at once, or awaitable where `answer` is."""
    if isawaitable(answer):
        return _used(answer, use)
    return use(answer)


async def _used(answer: Awaitable[Given], use: Callable[[Given], Result]) -> Result:
    return use(await answer)


async def in_thread(function: Callable[[], Result]) -> Result:
    """What `function` returns or raises, called in a thread of its own.

    A call that does not return is left behind: nothing waits for its thread, not even the end of
    the process.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Callable[[], Result]] = loop.create_future()

    def settle(result: Callable[[], Result]) -> None:
        if not outcome.done():
            outcome.set_result(result)

    def call() -> None:
        result = _outcome_of(function)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=contextvars.copy_context().run, args=(call,), daemon=True).start()
    return (await outcome)()


def _outcome_of(function: Callable[[], Result]) -> Callable[[], Result]:
    """A function that returns what `function` has returned, or raises what it has raised."""
    try:
        result = function()
    except BaseException as error:
        raised = error

        def fail() -> Result:
            raise raised

        return fail
    return lambda: result


def is_being_cancelled(error: BaseException) -> bool:
    """Whether `error` is the cancellation of the present coroutine, not one that it waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
