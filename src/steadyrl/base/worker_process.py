"""A second process that answers questions, one after another in the order they are asked.

    this process      process.ask("score", batch)  ->  Future
    worker process    worker.score(batch)          ->  the result, or the exception

A worker is an object whose public methods answer the questions of their names. Meanwhile it may
report progress. Both sides run on one machine and trust each other: messages are pickled.
"""

import io
import os
import pickle
import signal
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.parent_death import end_with_parent
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.progress_reports import ProgressReport, ProgressReporter

_SERVE = "from steadyrl.base.worker_process import serve; serve({!r}, {!r}, {}, {})"


@runtime_checkable
class WorksBetweenQuestions(Protocol):
    """A worker that works on while it has no question to answer."""

    def work_until(self, readable: int) -> None:
        """Works until the file with the descriptor `readable` can be read."""
        ...


class WorkerProcess:
    """A process with a worker. It ends when it is closed, or with this process.

    Args:
        worker: Class of the worker as `module:Class`. It is constructed with a `Progress`.
        noun: Name of the process in messages, such as `rollout process`.
        ended: The error to raise if the process has ended, for its exit status.
        progress: Hears of progress in the process while this process waits for it.
        environment: Environment variables that the process has in addition.
        quiet: Discard what the process prints to standard output.
    """

    def __init__(
        self,
        worker: str,
        *,
        noun: str,
        ended: Callable[[int], UserError],
        progress: Progress = NO_PROGRESS,
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self._ended = ended
        self._progress = progress
        self._is_waiting = False
        self._connection, theirs = Pipe()
        with theirs:
            program = _SERVE.format(worker, noun, theirs.fileno(), os.getpid())
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if quiet else None,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C in a terminal only reaches this process
            )
        self._thread = ThreadPoolExecutor(1)
        self._close = weakref.finalize(
            self, _stop, self._process, self._thread, self._connection.close
        )
        self._connection.send(sys.path)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Exit status of the process; None while it runs."""
        return self._process.poll()

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        """Asks for the result of a method of the worker.

        The future raises a `UserError` that the worker raised, or if the worker has ended, and a
        `RuntimeError` with the traceback of any other exception.
        """
        return self._thread.submit(self._answer, question, args)

    def wait(self, answer: "Future[Any]") -> Any:
        """Waits for the result of a question. Meanwhile, progress is reported."""
        with self.reporting():
            return answer.result()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Context in which progress of the process is reported."""
        self._is_waiting = True
        try:
            yield
        finally:
            self._is_waiting = False

    def close(self) -> None:
        """Ends the process."""
        self._close()

    def _answer(self, question: str, args: tuple[Any, ...]) -> Any:
        """Runs in the thread that talks to the worker, one question at a time."""
        try:
            self._connection.send_bytes(pickled((question, args)))
            while isinstance(reply := pickle.loads(self._connection.recv_bytes()), ProgressReport):
                if self._is_waiting:
                    reply.repeat(self._progress)
        except (EOFError, OSError):
            raise self._ended(self._process.wait()) from None
        value, error = reply
        if error is not None:
            raise error
        return value


class TensorPickler(pickle.Pickler):
    """Pickles only the visible part of a tensor, not its whole storage."""

    def reducer_override(self, obj: Any) -> Any:
        """How `obj` is pickled, if it is a tensor."""
        if isinstance(obj, Tensor) and obj.dtype == torch.bfloat16:  # NumPy has no such type
            return _bfloat16, (obj.detach().cpu().contiguous().view(torch.int16).numpy(),)
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.detach().cpu().contiguous().numpy(),)
        return NotImplemented


def _bfloat16(bits: Any) -> Tensor:
    return torch.from_numpy(bits).view(torch.bfloat16)


def pickled(message: Any) -> memoryview:
    """A message between the two processes."""
    buffer = io.BytesIO()
    TensorPickler(buffer, protocol=5).dump(message)
    return buffer.getbuffer()


def serve(worker: str, noun: str, descriptor: int, parent: int) -> None:
    """Answers questions until the other side of the connection is closed.

    Also ends with the process `parent`, even during a question, but not by a SIGTERM to all
    processes of a run: that process would take it for a failure.
    """
    end_with_parent(parent)
    signal.signal(signal.SIGTERM, lambda *_: None)  # unlike SIG_IGN, children do not inherit it
    connection = Connection(descriptor)

    def send(message: Any) -> None:
        connection.send_bytes(pickled(message))

    with suppress(EOFError, OSError):
        sys.path[:] = connection.recv()
        module, _, name = worker.partition(":")
        progress = ProgressReporter(send)
        answering = getattr(import_module(module), name)(progress)
        while True:
            if isinstance(answering, WorksBetweenQuestions):
                answering.work_until(descriptor)
            question, args = pickle.loads(connection.recv_bytes())
            with progress.heard():
                reply = _answer(partial(getattr(answering, question), *args), noun)
            connection.send_bytes(reply)


def _answer(work: Callable[[], Any], noun: str) -> memoryview:
    """The result of a question, or the exception that it raised."""
    try:
        return pickled((work(), None))
    except UserError as error:
        return pickled((None, error))
    except Exception:
        text = f"The {noun} failed.\n{traceback.format_exc()}"
        return pickled((None, RuntimeError(text)))


def _stop(
    process: "subprocess.Popen[bytes]", thread: ThreadPoolExecutor, disconnect: Callable[[], None]
) -> None:
    process.kill()
    process.wait()
    thread.shutdown(cancel_futures=True)
    disconnect()
