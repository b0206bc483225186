"""Calls that may hang, exit or eat all memory, made in processes of their own.

Judges built on computer algebra or `eval` can be led by a response into work that never ends, such
as a power tower inside one C call. This process holds the deadline of every call and has the worker
killed when it has passed, with everything that it started, so it does not matter what a call does
to its own timers, signals, threads or file descriptors. Workers end with this process, killed or
not. This guards against accidents; it is not a sandbox for code that attacks it.
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
    """The function that `factory` returns, called in worker processes.

    Each call finds the process as `factory` left it: random numbers seeded alike, and a worker in
    which a call changed the working directory, the environment, signals, threads or the like is
    replaced. So results depend neither on the number of workers nor on the calls before.

    Args:
        factory: Picklable, that is a module's function or a `partial` of one. It is called once, at
            the first call, in the process from which all workers are forked. The function that it
            returns takes anything that can be pickled, and returns plain values: numbers, texts,
            and tuples, lists, sets and dicts of them.
        timeout: Seconds that a call may take. The start of the processes does not count.
        workers: Calls that run at once; None is one for each core. Started when they are needed.
        memory: Bytes of address space that a worker may have, on Linux.

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
        """What the function returns. Waits while all workers are busy.

        Raises:
            IsolationError: the call gave no result.
            RuntimeError: no worker can be started; the message holds the traceback of `factory`.
        """
        request, closings = pickle.dumps((args, kwargs)), self._closings
        with self._places:
            for _ in range(2):  # another call may have taken the server down
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
        """The result of a call that runs beside others, once it is there."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._workers)
            return self._threads.submit(self, *args, **kwargs)

    def close(self) -> None:
        """Ends all processes. Calls under way fail; a later call starts new ones."""
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
                except RuntimeError as error:  # to try again would take seconds for each call
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
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
