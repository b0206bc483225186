"""Calls that may hang, exit or eat all memory, made in a process of their own.

Judges built on computer algebra or `eval` can be led by a response into work that never ends
(a power tower inside one C call, which no Python signal handler interrupts). The worker process
arms a kernel timer without a handler before each call: when it fires the worker dies, the caller
reads the end of the pipe, and the next call starts a new worker. This works from any thread, and
a worker whose parent was killed ends by itself. It guards against accidents, not against attacks.
"""

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_MEMORY_LIMIT = 8 * 2**30
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_SERVE = "from steadyrl.environments.isolation import serve; serve()"


class IsolationError(RuntimeError):
    """The call was given up: it ran out of time, or took its process down."""


class Isolated(Generic[P, R]):
    """The function that `factory` returns, called in a worker process.

    The factory (picklable: a module's function or a `partial` of one) runs once per worker, at
    the first call; `timeout` is in seconds, per call, and does not count that start.

    Example:
        judge = Isolated(partial(make_scorer, "chain_sum"), timeout=5.0)
        judge("12", entry)
    """

    def __init__(self, factory: Callable[[], Callable[P, R]], *, timeout: float) -> None:
        self._setup = pickle.dumps((factory, timeout))
        self._timeout = timeout
        self._lock = threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns.

        Raises:
            IsolationError: no reply came within the time limit.
            RuntimeError: the function raised; the message holds the worker's traceback.
        """
        with self._lock:
            result, error = self._ask(pickle.dumps((args, kwargs)))
        if error:
            raise RuntimeError(f"An isolated call raised.\n{error}")
        return result

    def _ask(self, request: bytes) -> tuple[R, str]:
        worker = self._living_worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(request)
            worker.stdin.flush()
            reply: tuple[R, str] = pickle.load(worker.stdout)
            return reply
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            status = _stop(worker)
            if status == -signal.SIGALRM:
                reason = f"took longer than {self._timeout:g} s"
            else:
                reason = f"ended its process (exit status {status})"
            raise IsolationError(reason) from error

    def _living_worker(self) -> subprocess.Popen[bytes]:
        if self._worker is None or self._worker.poll() is not None:
            self._worker = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,
            )
            weakref.finalize(self, _stop, self._worker)
            assert self._worker.stdin is not None
            self._worker.stdin.write(self._setup)
        return self._worker


def _stop(worker: subprocess.Popen[bytes]) -> int:
    """The exit status of `worker`, which ends when it finds its input closed."""
    for pipe in (worker.stdin, worker.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
    return worker.wait()


def serve() -> None:
    """Returns when the input is closed, having answered every call: the worker's whole life."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    factory, timeout = pickle.load(requests)
    function = factory()
    with suppress(EOFError):
        while True:
            args, kwargs = pickle.load(requests)
            signal.setitimer(signal.ITIMER_REAL, timeout)
            try:
                reply = (function(*args, **kwargs), "")
            except Exception:
                reply = (None, traceback.format_exc())
            signal.setitimer(signal.ITIMER_REAL, 0)
            pickle.dump(reply, replies)
            replies.flush()
