"""A process that samples while this one learns.

    this process     update t                     take t+1, ask for t+2   update t+1
    rollout process  sample t+1 (weights v_t)     load v_t+1              sample t+2 (weights v_t+1)

Questions are answered in the order in which they are asked, so the order alone decides which
weights a rollout is sampled with: a run repeats exactly.
"""

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.algorithms.protocol import Experience, SupportsState
from steadyrl.base.errors import UserError
from steadyrl.base.parent_death import end_with_parent
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.canary import EngineReading, read_engine
from steadyrl.engines.driver import drive, generate_all
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import StateDictWeights
from steadyrl.run.assembly import Assembly, unchecked
from steadyrl.run.config import RunConfig
from steadyrl.run.progress_reports import ProgressReport, ProgressReporter
from steadyrl.run.shared_weights import Layout, SharedWeights, layout_of

_SERVE = "from steadyrl.run.rollout_process import serve; serve({})"
_ENDED = object()


class Reply:
    """The answer to a question, once it is there."""

    def __init__(self, process: "RolloutProcess") -> None:
        self._process = process
        self.outcome: tuple[Any, BaseException | None] | None = None

    def result(self) -> Any:
        """Waits for the answer.

        Raises:
            UserError: the rollout process met it, or has ended.
            RuntimeError: the rollout process failed; the message holds its traceback.
        """
        while self.outcome is None:
            self._process.read(self)
        value, error = self.outcome
        if error is not None:
            raise error
        return value


class RolloutProcess:
    """The engine and the algorithms of a run in a process of their own.

    It ends when this one closes it, or dies.

    Args:
        weights: Of the policy. Their shapes and types stay.
        progress: Hears how far the process is with what is being waited for.
    """

    def __init__(
        self,
        config: RunConfig,
        weights: Mapping[str, Tensor],
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._progress = progress
        self._folder = TemporaryDirectory(prefix="steadyrl-")
        path, layout = Path(self._folder.name) / "weights", layout_of(weights)
        self._weights = SharedWeights(path, layout)
        self._worker = subprocess.Popen(
            [sys.executable, "-c", _SERVE.format(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._open: deque[Reply] = deque()
        self._replies: SimpleQueue[Any] = SimpleQueue()
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._questions = self._worker.stdin
        self._close = weakref.finalize(self, _stop, self._worker, self._folder)
        reader = threading.Thread(
            target=_forward, args=(self._worker.stdout, self._replies), daemon=True
        )
        reader.start()
        self._loaded = self.ask("begin", config, path, layout)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._worker.pid

    def ask(self, question: str, *args: Any) -> Reply:
        """Sends a question: a method of the worker, and its arguments."""
        reply = Reply(self)
        self._open.append(reply)
        with suppress(BrokenPipeError):  # the reader has seen the end too
            _write(self._questions, (question, args))
        return reply

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Uses `weights` for all further requests."""
        self._loaded.result()
        self._weights.write(weights)
        self._loaded = self.ask("load_weights", version)

    def read(self, awaited: Reply) -> None:
        """Waits for the next answer, which belongs to the oldest open question."""
        outcome = self._replies.get()
        while isinstance(outcome, ProgressReport):
            if self._open[0] is awaited:
                outcome.tell(self._progress)
            outcome = self._replies.get()
        if outcome is _ENDED:
            self._replies.put(_ENDED)
            outcome = (None, _ended(self._worker.wait()))
        self._open.popleft().outcome = outcome

    def close(self) -> None:
        """Ends the process."""
        self._close()


class _Worker:
    """Server loop of the rollout process."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, config: RunConfig, path: Path, layout: Layout) -> None:
        """Builds engine and algorithms. The trainer's copy of the model is let go."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the other process has given them
            assembly = Assembly.of(unchecked(config), progress=self._progress)
        self._stages, self._engine = assembly.stages, assembly.engine
        self._weights = SharedWeights(path, layout)

    def load_weights(self, version: int) -> None:
        weights = StateDictWeights(state=self._weights.tensors, version=version)
        drive(self._engine.sync(weights))

    def capabilities(self) -> EngineCapabilities:
        return self._engine.capabilities

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        return generate_all(self._engine, requests)

    def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        return drive(self._engine.score(sequences))

    def read(self, probes: Sequence[Int[Tensor, " T"]]) -> EngineReading:
        return drive(read_engine(self._engine, probes))

    def collect(self, stage: int, step: int) -> Experience:
        started = time.perf_counter()
        experience = drive(self._stages[stage].algorithm.collect(step, self._engine))
        return replace(
            experience,
            policy_version=self._engine.policy_version,
            seconds=time.perf_counter() - started,
        )

    def state(self, stage: int) -> Any:
        algorithm = self._stages[stage].algorithm
        assert isinstance(algorithm, SupportsState)
        return algorithm.state()

    def load_state(self, stage: int, state: Any) -> None:
        algorithm = self._stages[stage].algorithm
        assert isinstance(algorithm, SupportsState)
        algorithm.load_state(state)


def serve(parent: int) -> None:
    """Returns when the input is closed, having answered every question: the worker's whole life.

    When `parent` dies in the middle of a question, so does this process.
    """
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides when to end
    questions, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not get between the replies
    worker = _Worker(ProgressReporter(partial(_write, replies)))
    with suppress(EOFError, BrokenPipeError):
        while True:
            question, args = pickle.load(questions)
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = (getattr(worker, question)(*args), None)
            except UserError as error:
                outcome = (None, error)
            except Exception:
                said = f"The rollout process failed.\n{traceback.format_exc()}"
                outcome = (None, RuntimeError(said))
            _write(replies, outcome)


def _ended(status: int) -> UserError:
    return UserError(
        f"The rollout process ended (exit status {status}). It may have run out of memory: lower "
        "engine.max_running, or set engine.overlap to false, in the run's config.yaml, and resume "
        "the run."
    )


def _forward(replies: IO[bytes], queue: "SimpleQueue[Any]") -> None:
    """Reads replies as they come, so that no side ever waits for the other to read."""
    with suppress(EOFError, pickle.UnpicklingError, ValueError):
        while True:
            queue.put(pickle.load(replies))
    queue.put(_ENDED)


def _stop(worker: "subprocess.Popen[bytes]", folder: "TemporaryDirectory[str]") -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
    folder.cleanup()


class _Pickler(pickle.Pickler):
    """Writes of a tensor what it shows, not the whole memory of which it is a part."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.detach().cpu().contiguous().numpy(),)
        return NotImplemented


def _write(stream: IO[bytes], message: Any) -> None:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    stream.write(buffer.getbuffer())
    stream.flush()
