"""One thread for coroutines and for the engines that answer them.

    a coroutine can run          it runs, in the order in which coroutines became ready
    none can run                 every engine with requests under way takes one step
    no engine has any, either    the thread waits for clocks, threads and sockets

Where coroutines wait for engines alone, the engines' answers decide the order in which they become
ready, so that everything is a function of the seeds. Where they also wait for clocks, threads or
the network, the order in which these answer decides which requests share a batch.
"""

import asyncio
import contextvars
import selectors
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from steadyrl.base.concurrency import ENDS_WITHIN, concurrently
from steadyrl.engines.protocol import Engine, Request
from steadyrl.records.completion import Completion

Result = TypeVar("Result")


class IdleSelector(selectors.DefaultSelector):
    """Waits for the event loop, and computes instead while there is something to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[Callable[[], bool], None] = {}
        """What computes, in the order in which it began. Returns whether there is more to do."""

    def select(self, timeout: float | int | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has become ready. The loop gives no time for it while a coroutine can run."""
        if not self.steps or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        for step in list(self.steps):
            if not step():
                self.steps.pop(step, None)
        return super().select(0)


class EngineLoop(asyncio.SelectorEventLoop):
    """An event loop that steps engines whenever no coroutine can run."""

    def __init__(self, selector: IdleSelector | None = None) -> None:
        self._idle = selector or IdleSelector()
        super().__init__(self._idle)

    def call_when_idle(self, step: Callable[[], bool]) -> None:
        """Calls `step` whenever no coroutine can run, until it returns False."""
        self._idle.steps[step] = None

    def clear_idle_calls(self) -> None:
        """Calls no step any more."""
        self._idle.steps.clear()


def engine_loop() -> EngineLoop:
    """The event loop that runs the calling coroutine.

    Raises:
        RuntimeError: it is of another kind, which steps no engine.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EngineLoop):
        raise RuntimeError(
            f"Engines of this process are stepped by an EngineLoop, but a {type(loop).__name__} "
            "runs this coroutine. Run it by steadyrl.engines.driver.drive."
        )
    return loop


def drive(
    main: Coroutine[Any, Any, Result], *, make_loop: Callable[[], EngineLoop] = EngineLoop
) -> Result:
    """Runs `main` to its end in this thread, and returns its result.

    Where an event loop runs already, as in a notebook, another thread does so.
    """
    if not _is_inside_a_loop():
        return _run(main, make_loop)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, _run, main, make_loop).result()


def _is_inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def generate_all(engine: Engine, requests: Iterable[Request]) -> list[list[Completion]]:
    """The answers to each of `requests`, all of which are under way at once.

    Example:
        ((answer,),) = generate_all(engine, [request])
    """
    return drive(concurrently(map(engine.generate, requests)))


def _run(main: Coroutine[Any, Any, Result], make_loop: Callable[[], EngineLoop]) -> Result:
    # asyncio.run would turn Ctrl-C into a cancellation, which comes after a whole update.
    loop = make_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.clear_idle_calls()
        _end_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _end_tasks(loop: EngineLoop) -> None:
    """Cancels what still runs, and waits for it for a while."""
    deadline = time.monotonic() + ENDS_WITHIN
    while (left := asyncio.all_tasks(loop)) and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        # An interruption is raised anew by every coroutine that it passes through.
        with suppress(KeyboardInterrupt, SystemExit):
            loop.run_until_complete(asyncio.wait(left, timeout=ENDS_WITHIN))
        for task in left:
            if task.done() and not task.cancelled():
                task.exception()  # which is not news
