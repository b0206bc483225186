"""Where the ranks of a sharded learner run: as processes of this machine, or somewhere else."""

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import Progress
from steadyrl.base.temporary_folder import TemporaryFolder
from steadyrl.base.worker_process import WorkerProcess
from steadyrl.records.shared_weights import Layout, SharedWeights

WORKER = "steadyrl.learners.fsdp.worker:Worker"
"""What runs in a rank."""

DeviceType = Literal["cpu", "cuda"]

_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"


@runtime_checkable
class RankProcess(Protocol):
    """A process that answers questions, one after another in the order they are asked."""

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        """Asks for the result of a method of the worker."""
        ...

    def reporting(self) -> AbstractContextManager[None]:
        """Context in which progress of the process is reported."""
        ...

    def close(self) -> None:
        """Ends the process."""
        ...


@runtime_checkable
class InitialWeights(Protocol):
    """Weights that every rank reads, wherever it runs."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by name, which must not be written to."""
        ...


@runtime_checkable
class RankHost(Protocol):
    """Starts ranks and hands them weights."""

    @property
    def address(self) -> str:
        """Address of this process, at which the ranks meet."""
        ...

    @property
    def device_type(self) -> DeviceType:
        """The kind of device that the ranks compute on."""
        ...

    @property
    def grace(self) -> float:
        """Seconds that other ranks get to answer after one failed, until its end is noticed."""
        ...

    def start(self, rank: int, progress: Progress) -> RankProcess:
        """Starts a rank."""
        ...

    def share(
        self, weights: Mapping[str, Tensor], layout: Layout
    ) -> AbstractContextManager[InitialWeights]:
        """Context in which the ranks can read `weights`, in the dtypes of `layout`."""
        ...


class RankEndedError(UserError):
    """A rank has ended without being asked to."""


def rank_ended(rank: int, reason: str) -> RankEndedError:
    """The error for a rank that has ended.

    Args:
        reason: What is known of its end, for example `exit status -9`.
    """
    return RankEndedError(
        f"Rank {rank} of the learner ended ({reason}). It may have run out of memory: set "
        "learner.activation_checkpointing to true, a lower learner.micro_batch_tokens, or other "
        "learner.ranks, and resume the run from its last checkpoint."
    )


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Weights in a file of this machine, which is mapped, not copied."""

    path: Path
    layout: Layout

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights by name, which must not be written to."""
        return SharedWeights(self.path, self.layout).tensors


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """Runs every rank in a process of this machine."""

    device_type: DeviceType
    address: str = "127.0.0.1"
    grace: float = 5.0

    def start(self, rank: int, progress: Progress) -> RankProcess:
        """Starts a process, which ends with this one."""
        network = {
            "MASTER_ADDR": self.address,
            "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", _INTERFACE),
        }
        return WorkerProcess(
            WORKER,
            noun=f"learner's rank {rank}",
            ended=partial(_ended, rank),
            progress=progress,
            environment=network,
            quiet=True,  # Gloo prints
        )

    @contextmanager
    def share(self, weights: Mapping[str, Tensor], layout: Layout) -> Iterator[InitialWeights]:
        """Writes `weights` to a file, which is removed at the end."""
        with TemporaryFolder() as folder:
            file = WeightFile(folder / "weights", layout)
            SharedWeights(file.path, layout).write(weights)
            yield file


def _ended(rank: int, status: int) -> RankEndedError:
    return rank_ended(rank, f"exit status {status}")
