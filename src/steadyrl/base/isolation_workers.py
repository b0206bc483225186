"""Client side of the worker processes: starting, calling and ending them."""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steadyrl.base.isolation_messages import (
    LARGEST_REPLY,
    plain_value,
    receive,
    send,
)
from steadyrl.base.isolation_server import END, FORK, NO_FORK, ORDER, REPLY

_STARTS_WITHIN = 300.0
"""Time limit in seconds for importing and building the function."""

_OBEYS_WITHIN = 10.0
"""Time limit in seconds for the server to fork or end a worker."""

_SERVE = "from steadyrl.base.isolation_server import serve; serve({}, {})"


class IsolationError(RuntimeError):
    """A call that did not return: it timed out, ran out of memory, raised or ended its process.

    Attributes:
        reason: What the call did, without its arguments.
    """

    def __init__(self, reason: str, raised: str = "", its_traceback: str = "") -> None:
        super().__init__(f"raised {raised}" if raised else reason)
        self.reason = reason
        if its_traceback:
            self.add_note(its_traceback)


class ServerEndedError(RuntimeError):
    """The server process ended or does not respond."""


@dataclass(frozen=True, slots=True)
class _Worker:
    process: int
    connection: socket.socket


class Workers:
    """A server process that forks workers, and its idle and busy workers."""

    def __init__(self, factory: bytes, memory: int) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE.format(theirs.fileno(), os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal only reaches this process
            )
        try:
            deadline = time.monotonic() + _STARTS_WITHIN
            send(self._control, pickle.dumps((sys.path, factory, memory)), deadline)
            error = receive(self._control, deadline).decode()
        except (OSError, EOFError) as failure:
            self._kill()
            self.close()
            status = self._process.returncode
            error = f"Its process ended or did not start in time (exit status {status})."
            raise RuntimeError(f"An isolated function could not be built. {error}") from failure
        except BaseException:
            self._kill()
            self.close()
            raise
        if error:
            self.close()
            raise RuntimeError(f"An isolated function could not be built.\n{error}")

    def call(self, request: bytes, timeout: float) -> Any:
        """Runs a call in a worker and returns its result.

        Raises:
            IsolationError: the call did not return a result.
            ServerEndedError: the server ended during the call.
        """
        worker = self._take()
        deadline = time.monotonic() + timeout
        try:
            send(worker.connection, request, deadline)
            reply = receive(worker.connection, deadline, largest=2 * LARGEST_REPLY)
            kind, unchanged, answer = plain_value(reply)
            result = plain_value(answer) if kind == "returned" else IsolationError(*answer)
        except TimeoutError:
            with suppress(ServerEndedError):
                self._end(worker)
            raise IsolationError(f"took longer than {timeout:g} s") from None
        except (EOFError, OSError):
            status = _describe_status(self._end(worker))
            raise IsolationError(f"ended without an answer ({status})") from None
        except (ValueError, TypeError, pickle.UnpicklingError) as error:
            self._end(worker)
            raise IsolationError("returned something other than plain values") from error
        except BaseException:
            with suppress(ServerEndedError):
                self._end(worker)
            raise
        if unchanged:
            with self._lock:
                self._idle.append(worker)
        else:
            with suppress(ServerEndedError):
                self._end(worker)
        if isinstance(result, IsolationError):
            raise result
        return result

    def close(self) -> None:
        """Ends the server and thereby every worker; kills them if that takes too long."""
        with self._lock:
            self._is_closed = True
            self._control.close()
        try:
            self._process.wait(_OBEYS_WITHIN)
        except subprocess.TimeoutExpired:
            self._kill()
        with self._lock:
            for worker in self._all:
                worker.connection.close()
            self._all.clear()
            self._idle.clear()

    def _take(self) -> _Worker:
        """Returns an idle worker, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = self._order(FORK, 0, theirs.fileno())
                except ServerEndedError:
                    ours.close()
                    raise
            if process == NO_FORK:
                ours.close()
                raise RuntimeError(
                    "No process can be started: there are too many, or memory is exhausted."
                )
            worker = _Worker(process, ours)
            self._all.add(worker)
            return worker

    def _end(self, worker: _Worker) -> int:
        """Kills a worker and every process that it started; returns its exit status."""
        with self._lock:
            worker.connection.close()
            self._all.discard(worker)
            return self._order(END, worker.process)

    def _order(self, kind: bytes, number: int, *sockets: int) -> int:
        if self._is_closed:
            raise ServerEndedError
        try:
            self._control.settimeout(_OBEYS_WITHIN)
            socket.send_fds(self._control, [ORDER.pack(kind, number)], sockets)
            (answer,) = REPLY.unpack(self._control.recv(REPLY.size))
        except (OSError, struct.error) as error:  # the server is closed, stopped or dead
            self._kill()
            raise ServerEndedError from error
        return int(answer)

    def _kill(self) -> None:
        """Kills the server and its workers. Descendants in other sessions are not killed."""
        sessions = [worker.process for worker in list(self._all)]
        if self._process.poll() is None:
            sessions.append(self._process.pid)
        for session in sessions:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGKILL)
        self._process.wait()


def _environment() -> dict[str, str]:
    """Environment of the workers: one thread each, and the same hash seed for all."""
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    hashing = os.environ.get("PYTHONHASHSEED", "")
    return {**os.environ, **single, "PYTHONHASHSEED": hashing if hashing.isdigit() else "0"}


def _describe_status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
