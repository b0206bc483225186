"""The server process that forks workers, and the main loop of a worker.

    caller ---- control ----> server (has built the function)
       |                         | fork
       +---- one socket ----> worker (calls the function, again and again)

The caller enforces the deadline of each call. When it has passed, the server kills the worker's
whole session and every process that escaped from it, and forks a new worker, which takes
milliseconds because the function is already built.
"""

import gc
import io
import os
import pickle
import random
import resource
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from steadyrl.base.errors import cause, describe_error
from steadyrl.base.isolation_messages import (
    LARGEST_REPLY,
    PlainPickler,
    receive,
    send,
)
from steadyrl.base.parent_death import adopt_orphans, end_with_parent, outlive_parent

FORK, END = b"f", b"e"
ORDER = struct.Struct("<cq")
"""FORK with 0 and a socket, or END with a worker's process id. The reply is the process id of the
new worker, or the exit status of the worker that ended."""

REPLY = struct.Struct("<q")

NO_FORK = -1
"""Sent instead of a process id if the fork failed."""

_LOOK_EVERY = 1.0
"""Seconds between two searches for orphaned processes."""

_LONGEST = 10_000
"""Maximum number of characters of an exception's text."""

_GROWTH = 2**28
"""Bytes that a call may add to the peak memory of a worker before the worker is replaced."""


def serve(control_number: int, parent: int) -> None:
    """Builds the function and forks workers until the caller closes `control_number` or dies."""
    end_with_parent(parent)  # nobody reads the socket while the function is being built
    control = socket.socket(fileno=control_number)
    sys.path[:], setup, memory = pickle.loads(receive(control))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    try:
        function = pickle.loads(setup)()
    except BaseException:
        send(control, traceback.format_exc().encode("utf-8", "replace"))
        return
    adopt_orphans()
    gc.collect()
    gc.freeze()  # garbage collection in a worker would copy all memory of this process
    outlive_parent()
    workers: set[int] = set()
    send(control, b"")
    with suppress(OSError):
        while _obey(control, function, memory, workers):
            pass
    for worker in list(workers):
        _end(worker, workers)


def _obey(
    control: socket.socket, function: Callable[..., Any], memory: int, workers: set[int]
) -> bool:
    """Executes the next order; returns False when the caller is gone."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while not poll.poll(1000 * _LOOK_EVERY):
        _end_strays(workers)
    order, sockets, *_ = socket.recv_fds(control, ORDER.size, 1)
    if not order:
        return False
    kind, worker = ORDER.unpack(order)
    if kind == FORK:
        connection, server = socket.socket(fileno=sockets[0]), os.getpid()
        worker = _fork()
        if worker == 0:
            try:
                control.close()
                _work(connection, function, memory, server)
            finally:
                os._exit(1)
        connection.close()
        workers |= {worker} - {NO_FORK}
        control.sendall(REPLY.pack(worker))
    else:
        control.sendall(REPLY.pack(_end(worker, workers)))
    return True


def _fork() -> int:
    try:
        return os.fork()
    except OSError:  # too many processes, or too little memory
        return NO_FORK


def _end(worker: int, workers: set[int]) -> int:
    """Kills a worker and every process that it started; returns its exit status."""
    _kill(worker)
    _, status = os.waitpid(worker, 0)
    workers.discard(worker)
    _end_strays(workers)
    return os.waitstatus_to_exitcode(status)


def _end_strays(workers: set[int]) -> None:
    """Kills orphaned processes, and their children, which this process adopts in turn."""
    while strays := _children() - workers:
        for stray in strays:
            _kill(stray)
            with suppress(ChildProcessError):
                os.waitpid(stray, 0)


def _kill(process: int) -> None:
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(process, signal.SIGKILL)


def _children() -> set[int]:
    """Process ids of this process's children; empty if the kernel does not list them."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, listing.read_text().split())) if listing.exists() else set()


def _work(
    connection: socket.socket, function: Callable[..., Any], memory: int, server: int
) -> None:
    """Main loop of a worker: answers calls until the caller closes `connection`."""
    os.setsid()
    end_with_parent(server)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    initial_state, size = _state(), _peak_memory()
    while True:
        request = receive(connection)
        _seed()
        kind, reply = _answer(function, request)
        grew = _peak_memory() - size >= _GROWTH
        unchanged = kind != "gave up" and not grew and _state() == initial_state
        send(connection, pickle.dumps((kind, unchanged, reply)))


def _answer(function: Callable[..., Any], request: bytes) -> tuple[str, Any]:
    """The kind of reply, and a pickled value or the arguments of an `IsolationError`."""
    try:
        args, kwargs = pickle.loads(request)
        written = io.BytesIO()
        PlainPickler(written, protocol=5).dump(function(*args, **kwargs))
        if written.tell() > LARGEST_REPLY:
            return "gave up", (f"returned {written.tell()} bytes", "", "")
        return "returned", written.getvalue()
    except BaseException as error:
        ordinary = isinstance(error, Exception) and not isinstance(error, MemoryError)
        text = cause(error) if ordinary else describe_error(error)
        trace = "" if isinstance(error, MemoryError) else traceback.format_exc()
        details = (part[:_LONGEST] for part in (text, trace))
        reason = f"raised {type(error).__name__}"
        return "raised" if ordinary else "gave up", (reason, *details)


def _seed() -> None:
    """Reseeds the random number generators, so that calls do not depend on earlier ones."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)


def _state() -> list[Any]:
    """Process state that a call could change for the next one; a changed worker is replaced."""
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    try:
        has_children = os.waitpid(-1, os.WNOHANG) is not None
    except ChildProcessError:
        has_children = False
    return [
        _working_folder(),
        dict(os.environ),
        list(sys.path),
        sys.getrecursionlimit(),
        handlers,
        signal.pthread_sigmask(signal.SIG_BLOCK, []),
        signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        threading.active_count(),
        [_entries(f"/proc/self/{place}") for place in ("task", "fd")],
        has_children,
    ]


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _entries(folder: str) -> int:
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0


def _peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
