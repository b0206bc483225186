"""The process that forks workers, and what a worker does.

    caller ---- control ----> server (has made the function)
       |                         | fork
       +---- one socket ----> worker (calls the function, again and again)

The caller holds the deadline of each call. When it has passed, the server kills the worker's whole
session and every process that escaped from it, and forks a new worker, which takes milliseconds
because the function is made already.
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

from steadyrl.base.errors import describe_error
from steadyrl.base.isolation_messages import (
    LARGEST_REPLY,
    PlainPickler,
    receive,
    send,
)
from steadyrl.base.parent_death import adopt_orphans, end_with_parent, outlive_parent

FORK, END = b"f", b"e"
ORDER = struct.Struct("<cq")
"""FORK with 0, and a socket beside it; or END with a worker's process id. The reply is the worker's
process id, or the exit status of the one that ended."""

REPLY = struct.Struct("<q")

NO_FORK = -1
"""In the place of a worker's process id, where the system gave none."""

_LOOK_EVERY = 1.0
"""Seconds between two looks for processes that a worker left behind."""

_LONGEST = 10_000
"""Characters of an exception's text."""

_GROWTH = 2**28
"""Bytes by which the memory of a worker may have grown in a call before it is replaced."""


def serve(control_number: int, parent: int) -> None:
    """Makes the function and forks workers until the caller closes `control_number`, or dies."""
    end_with_parent(parent)  # while the function is being made, nobody reads the socket
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
    gc.freeze()  # a collection in a worker would copy all of this process's memory
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
    """Carries out the next order; False when the caller has gone."""
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
    """Kills a worker with all that it started; returns its exit status."""
    _kill(worker)
    _, status = os.waitpid(worker, 0)
    workers.discard(worker)
    _end_strays(workers)
    return os.waitstatus_to_exitcode(status)


def _end_strays(workers: set[int]) -> None:
    """Kills processes that were left behind, and theirs, which become children of this one."""
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
    """Process ids of the children of this process, where the kernel lists them."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, listing.read_text().split())) if listing.exists() else set()


def _work(
    connection: socket.socket, function: Callable[..., Any], memory: int, server: int
) -> None:
    """Answers calls until the caller closes `connection`: the worker's whole life."""
    os.setsid()
    end_with_parent(server)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    at_first, size = _state(), _peak_memory()
    while True:
        request = receive(connection)
        _seed()
        kind, reply = _answer(function, request)
        unchanged = kind != "gave up" and _peak_memory() - size < _GROWTH and _state() == at_first
        send(connection, pickle.dumps((kind, unchanged, reply)))


def _answer(function: Callable[..., Any], request: bytes) -> tuple[str, Any]:
    """The kind of reply, and a pickled value or what an `IsolationError` is made of."""
    try:
        args, kwargs = pickle.loads(request)
        written = io.BytesIO()
        PlainPickler(written, protocol=5).dump(function(*args, **kwargs))
        if written.tell() > LARGEST_REPLY:
            return "gave up", (f"returned {written.tell()} bytes", "", "")
        return "returned", written.getvalue()
    except BaseException as error:
        ordinary = isinstance(error, Exception) and not isinstance(error, MemoryError)
        told = (
            describe_error(error),
            "" if isinstance(error, MemoryError) else traceback.format_exc(),
        )
        reason = f"raised {type(error).__name__}"
        return "raised" if ordinary else "gave up", (reason, *(text[:_LONGEST] for text in told))


def _seed() -> None:
    """Lets a call depend on its arguments alone, not on which calls came before."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)


def _state() -> list[Any]:
    """What a call may leave changed for the next one. A worker in which it is gets replaced."""
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
    """Bytes, at most so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
