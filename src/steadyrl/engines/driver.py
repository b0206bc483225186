"""Single-threaded event loop that steps engines whenever no coroutine can run.

    a coroutine can run              it runs, in the order in which coroutines became ready
    none can run                     every engine with requests takes one step
    no engine has requests either    the thread waits for timers, threads and sockets

If coroutines only wait for engines, the completions decide the order in which coroutines become
ready, so everything is a function of the seeds. If they also wait for timers, threads or the
network, the order of those events decides which requests share a batch.
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
    """A selector that computes instead of waiting while there is something to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[Callable[[], bool], None] = {}
        """Functions that compute one step, in the order of their start. They return whether there
        is more to do."""

    def select(self, timeout: float | int | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Ready events. The loop passes a timeout of 0 while a coroutine can run."""
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
        """Stops all such calls."""
        self._idle.steps.clear()


def engine_loop() -> EngineLoop:
    """The running event loop, which must be an EngineLoop.

    Raises:
        RuntimeError: the running loop does not step engines.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EngineLoop):
        raise RuntimeError(
            f"Engines of this process are stepped by an EngineLoop, but a {type(loop).__name__} "
            "runs this coroutine. Run it with steadyrl.engines.driver.drive."
        )
    return loop


def drive(
    main: Coroutine[Any, Any, Result], *, make_loop: Callable[[], EngineLoop] = EngineLoop
) -> Result:
    """Runs `main` to completion in this thread and returns its result.

    If an event loop is already running, as in a notebook, another thread is used.
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
    """Completions of all `requests`, which are processed concurrently.

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
        end_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def end_tasks(loop: EngineLoop) -> None:
    """Cancels the remaining tasks of a loop that is not running, and waits for a limited time."""
    deadline = time.monotonic() + ENDS_WITHIN
    while (left := asyncio.all_tasks(loop)) and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        # An interruption is raised anew by every coroutine that it passes through.
        with suppress(KeyboardInterrupt, SystemExit):
            loop.run_until_complete(asyncio.wait(left, timeout=ENDS_WITHIN))
        for task in left:
            if task.done() and not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not log it
