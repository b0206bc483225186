"""A second process that samples while this one learns.

    this process     update t                     take t+1, begin t+2     update t+1
    rollout process  sample t+1 (weights v_t)     load v_t+1              sample t+2 (weights v_t+1)

Questions are answered one after another in the order in which they are asked. So this order alone
determines which weights sample a rollout, and a run repeats exactly.
"""

import io
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.run.config import RunConfig
from steadyrl.run.progress_reports import ProgressReport
from steadyrl.run.shared_weights import SharedWeights, layout_of

_SERVE = "from steadyrl.run.rollout_worker import serve; serve({}, {})"


class RolloutProcess:
    """A process that holds the engine and the algorithms of a run.

    It ends when it is closed, or with this process.

    Args:
        weights: Weights of the policy, whose names, shapes and types do not change.
        progress: Hears of progress in the rollout process while this process waits for it.
    """

    def __init__(
        self,
        config: RunConfig,
        weights: Mapping[str, Tensor],
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._progress = progress
        self._is_waiting = False
        self._folder = TemporaryDirectory(prefix="steadyrl-")
        path, layout = Path(self._folder.name) / "weights", layout_of(weights)
        self._weights = SharedWeights(path, layout)
        self._connection, theirs = Pipe()
        with theirs:
            self._worker = subprocess.Popen(
                [sys.executable, "-c", _SERVE.format(theirs.fileno(), os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal only reaches this process
            )
        self._thread = ThreadPoolExecutor(1)
        self._close = weakref.finalize(
            self, _stop, self._worker, self._thread, self._connection.close, self._folder
        )
        self._connection.send(sys.path)
        self._loaded = self.ask("begin", config, path, layout)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._worker.pid

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        """Asks for the result of a method of the worker.

        The future raises a `UserError` that the worker raised, or if the worker has ended, and a
        `RuntimeError` with the traceback of any other exception.
        """
        return self._thread.submit(self._answer, question, args)

    def call(self, question: str, *args: Any) -> Any:
        """Asks, and waits for the result."""
        self.wait(self._loaded)
        return self.wait(self.ask(question, *args))

    def wait(self, answer: "Future[Any]") -> Any:
        """Waits for the result of a question. Meanwhile, progress is reported."""
        self._is_waiting = True
        try:
            return answer.result()
        finally:
            self._is_waiting = False

    def load(self, question: str, weights: Mapping[str, Tensor], *args: Any) -> None:
        """Asks a question that reads `weights`, once the weights sent before have been read."""
        self.wait(self._loaded)
        self._weights.write(weights)
        self._loaded = self.ask(question, *args)

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
            raise _ended(self._worker.wait()) from None
        value, error = reply
        if error is not None:
            raise error
        return value


class _Pickler(pickle.Pickler):
    """Pickles only the visible part of a tensor, not its whole storage."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.detach().cpu().contiguous().numpy(),)
        return NotImplemented


def pickled(message: Any) -> memoryview:
    """A message between the two processes."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getbuffer()


def _ended(status: int) -> UserError:
    return UserError(
        f"The rollout process ended (exit status {status}). It may have run out of memory: lower "
        "engine.max_running, or set engine.overlap to false, in the run's config.yaml, and resume "
        "the run."
    )


def _stop(
    worker: "subprocess.Popen[bytes]",
    thread: ThreadPoolExecutor,
    disconnect: Callable[[], None],
    folder: "TemporaryDirectory[str]",
) -> None:
    worker.kill()
    worker.wait()
    thread.shutdown(cancel_futures=True)
    disconnect()
    folder.cleanup()
