"""A second process that samples while this one learns.

    this process     update t                     take t+1, begin t+2     update t+1
    rollout process  sample t+1 (weights v_t)     load v_t+1              sample t+2 (weights v_t+1)

Questions are answered one after another in the order in which they are asked. So this order alone
determines which weights sample a rollout, and a run repeats exactly.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.worker_process import WorkerProcess
from steadyrl.records.shared_weights import SharedWeights, layout_of
from steadyrl.run.config import RunConfig


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
        self._folder = TemporaryDirectory(prefix="steadyrl-")
        path, layout = Path(self._folder.name) / "weights", layout_of(weights)
        self._weights = SharedWeights(path, layout)
        self._process = WorkerProcess(
            "steadyrl.run.rollout_worker:Worker",
            noun="rollout process",
            ended=_ended,
            progress=progress,
        )
        self._loaded = self.ask("begin", config, path, layout)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        """Asks for the result of a method of the worker, as `WorkerProcess.ask`."""
        return self._process.ask(question, *args)

    def call(self, question: str, *args: Any) -> Any:
        """Asks, and waits for the result."""
        self.wait(self._loaded)
        return self.wait(self.ask(question, *args))

    def wait(self, answer: "Future[Any]") -> Any:
        """Waits for the result of a question. Meanwhile, progress is reported."""
        return self._process.wait(answer)

    def load(self, question: str, weights: Mapping[str, Tensor], *args: Any) -> None:
        """Asks a question that reads `weights`, once the weights sent before have been read."""
        self.wait(self._loaded)
        self._weights.write(weights)
        self._loaded = self.ask(question, *args)

    def close(self) -> None:
        """Ends the process."""
        self._process.close()
        self._folder.cleanup()


def _ended(status: int) -> UserError:
    return UserError(
        f"The rollout process ended (exit status {status}). It may have run out of memory: lower "
        "engine.max_running, or set engine.overlap to false, in the run's config.yaml, and resume "
        "the run."
    )
