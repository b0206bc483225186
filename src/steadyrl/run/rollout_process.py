"""A second process that samples while this one learns.

    this process     update t                     take t+1, begin t+2     update t+1
    rollout process  sample t+1 (weights v_t)     load v_t+1              sample t+2 (weights v_t+1)

Questions are answered one after another in the order in which they are asked. So this order alone
determines which weights sample a rollout, and a run repeats exactly.

If the process ends, it is started anew with the weights that it had loaded and the state after its
last answer, and the question that it was answering is asked again. So the rollout is the same: a
rollout depends on weights, state and seeds alone. While the process samples, newer weights wait in
a second file.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from threading import Lock
from typing import Any

from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, NoProgress, Progress
from steadyrl.base.temporary_folder import TemporaryFolder
from steadyrl.base.worker_process import WorkerProcess
from steadyrl.records.shared_weights import WeightFiles, layout_of
from steadyrl.run.config import RunConfig
from steadyrl.run.restarts import Restarts
from steadyrl.run.rollout_worker import Answer, SamplerState

Question = tuple[str, tuple[Any, ...]]

_REMEDY = (
    "It may have run out of memory: lower engine.max_running, or set engine.overlap to false, in "
    "the run's config.yaml, and resume the run."
)
_LASTING = ("begin", "take_reference")
"""Questions whose effect is not in the state of the sampler."""

_REPEATED = (*_LASTING, "load_state", "load_waiting")
"""Questions that a process which is started anew is asked again."""


class RolloutEndedError(UserError):
    """The rollout process has ended."""


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
        self.restarts = Restarts(config.placement.restarts, _REMEDY)
        self._folder = TemporaryFolder()
        folder, layout = self._folder.path, layout_of(weights)
        self._files = WeightFiles(folder, layout)
        self._sent = 0
        """Number of syncs that have been asked for."""
        self._keeps = 2 if config.placement.restarts else 1
        """Number of files for weights of syncs."""
        self._progress = _WhileWaiting(progress)
        self._closing, self._is_closed = Lock(), False
        self._process = self._start()
        self._repeated: list[Question] = []
        self._synced: tuple[Any, ...] | None = None
        """Arguments of the last sync that was answered."""
        self._state: SamplerState | None = None
        self._thread = ThreadPoolExecutor(1)
        self._loaded = self.ask("begin", config, folder, layout)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        """Asks for the result of a method of the worker, as `WorkerProcess.ask`."""
        return self._thread.submit(self._answer, question, args)

    def call(self, question: str, *args: Any) -> Any:
        """Asks, and waits for the result."""
        self.wait(self._loaded)
        return self.wait(self.ask(question, *args))

    def wait(self, answer: "Future[Any]") -> Any:
        """Waits for the result of a question. Meanwhile, progress is reported."""
        with self._progress.heard():
            return answer.result()

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Sends weights of the policy, once the weights sent before have been read."""
        name = f"weights-{self._sent % self._keeps}"
        self._sent += 1
        self.load("sync", name, weights, version)

    def load(self, question: str, name: str, weights: Mapping[str, Tensor], *args: Any) -> None:
        """Asks a question that reads `weights`, once the weights sent before have been read.

        Args:
            name: Name of the file that holds them from then on: the first argument of the question.
        """
        self.wait(self._loaded)
        self._files[name].write(weights)
        self._loaded = self.ask(question, name, *args)

    def close(self) -> None:
        """Ends the process."""
        with self._closing:
            self._is_closed = True
            self._process.close()
        self._thread.shutdown(cancel_futures=True)
        self._folder.close()

    def _answer(self, question: str, args: tuple[Any, ...]) -> Any:
        """Runs in the thread that talks to the process, one question at a time."""
        if question == "sync":
            self.restarts.begin_sync()
        while True:
            try:
                answer = self._process.wait(self._process.ask(question, *args))
                break
            except RolloutEndedError as error:
                self._start_again(error)
        if isinstance(answer, Answer):
            answer = self._remember(answer)
        if question in _REPEATED:
            self._repeated.append((question, args))
        if question == "sync":
            self._synced = args
        return answer

    def _remember(self, answer: Answer) -> Any:
        """The value of an answer, after which the sampler has another state."""
        if answer.state is not None:
            self._state = answer.state
            self._repeated = [each for each in self._repeated if each[0] in _LASTING]
        return answer.value

    def _start_again(self, error: RolloutEndedError) -> None:
        """Starts the process anew, and brings it where it was after its last answer."""
        while True:
            if self._is_closed:
                raise error
            if not self._repeated:  # it would end again as it begins
                raise RolloutEndedError(f"{str(error).rstrip('.')}. {_REMEDY}") from error
            self.restarts.record(error, "It is started anew, and its rollout is sampled again.")
            with self._closing:
                if self._is_closed:
                    raise error
                self._process.close()
                self._process = self._start()
            try:
                for question, args in chain(self._repeated, self._since()):
                    self._process.wait(self._process.ask(question, *args))
                return
            except RolloutEndedError as again:
                error = again

    def _since(self) -> Iterator[Question]:
        if self._synced is not None:
            yield "sync", self._synced
        if self._state is not None:
            yield "restore", (self._state,)

    def _start(self) -> WorkerProcess:
        return WorkerProcess(
            "steadyrl.run.rollout_worker:Worker",
            noun="rollout process",
            ended=lambda status: RolloutEndedError(
                f"The rollout process ended (exit status {status})."
            ),
            progress=self._progress,
        )


class _WhileWaiting(NoProgress):
    """Forwards progress while somebody waits for it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._is_heard = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Context in which progress is forwarded."""
        self._is_heard = True
        try:
            yield
        finally:
            self._is_heard = False

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Forwards it."""
        if self._is_heard:
            self._progress.advance(part, done, total, tokens=tokens, most_tokens=most_tokens)
