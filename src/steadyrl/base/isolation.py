"""Worker processes for calls that may hang, exit or exhaust memory.

A response can lead a judge built on computer algebra or `eval` into a computation that never ends,
such as a power tower inside one C call. The calling process enforces the deadline of every call:
when it has passed, the worker and every process that it started are killed. So a call may do
anything to its own timers, signals, threads or file descriptors. Workers end with the calling
process, even if that is killed. This guards against accidents; it is not a security sandbox.
"""

import os
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

from steadyrl.base.isolation_workers import IsolationError, ServerEndedError, Workers

__all__ = ["MEMORY_LIMIT", "Isolated", "IsolationError"]

P = ParamSpec("P")
R = TypeVar("R")

MEMORY_LIMIT = 8 * 2**30


class Isolated(Generic[P, R]):
    """A function that runs in worker processes.

    Each call starts from the process state that `factory` left: random number generators are
    reseeded, and a worker is replaced if a call changed its working directory, environment,
    signals, threads or similar state. So results depend neither on the number of workers nor on
    previous calls.

    Args:
        factory: Picklable function without arguments (a module-level function or a `partial` of
            one) that returns the function to run. It is called once, at the first call, in the
            process from which all workers are forked. The returned function takes picklable
            arguments and returns plain values: numbers, strings, and tuples, lists, sets and dicts
            of them.
        timeout: Time limit of a call in seconds. Starting the processes does not count.
        workers: Maximum number of concurrent calls; None: one per core. Workers start on demand.
        memory: Address space limit of a worker in bytes (Linux only).

    Example:
        with Isolated(partial(make_scorer, "chain_sum"), timeout=5.0) as judge:
            judge("12", entry)
            pending = [judge.submit(answer, entry) for answer in answers]
            verdicts = [future.result() for future in pending]
    """

    def __init__(
        self,
        factory: Callable[[], Callable[P, R]],
        *,
        timeout: float,
        workers: int | None = None,
        memory: int = MEMORY_LIMIT,
    ) -> None:
        self._factory = pickle.dumps(factory)
        self._timeout = timeout
        self._memory = memory
        self._workers = workers or cores()
        self._places = threading.BoundedSemaphore(self._workers)
        self._lock = threading.Lock()
        self._server: Workers | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._closings = 0
        self._unmade: RuntimeError | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function and returns its result. Waits while all workers are busy.

        Raises:
            IsolationError: the call did not return a result.
            RuntimeError: no worker can be started; the message holds the traceback of `factory`.
        """
        request, closings = pickle.dumps((args, kwargs)), self._closings
        with self._places:
            for _ in range(2):  # another call may have ended the server
                server = self._living_server()
                try:
                    result: R = server.call(request, self._timeout)
                    return result
                except ServerEndedError:
                    self._drop(server)
                if self._closings != closings:
                    raise RuntimeError("An isolated function was closed during a call.")
        raise IsolationError("ended the process that starts its workers")

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Starts a call in the background and returns its future."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._workers)
            return self._threads.submit(self, *args, **kwargs)

    def close(self) -> None:
        """Ends all processes. Running calls fail; a later call starts new processes."""
        with self._lock:
            threads, self._threads = self._threads, None
            server, self._server = self._server, None
            self._closings += 1
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        if server is not None:
            server.close()
        if threads is not None:
            threads.shutdown()

    def __enter__(self) -> "Isolated[P, R]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _living_server(self) -> "Workers":
        with self._lock:
            if self._unmade is not None:
                raise RuntimeError(str(self._unmade))
            if self._server is None:
                try:
                    self._server = Workers(self._factory, self._memory)
                except RuntimeError as error:  # retrying would take seconds at each call
                    self._unmade = error
                    raise
                weakref.finalize(self, self._server.close)
            return self._server

    def _drop(self, server: "Workers") -> None:
        with self._lock:
            if self._server is server:
                self._server = None
        server.close()


def cores() -> int:
    """Number of CPU cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
