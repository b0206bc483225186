"""What runs in an actor: a worker that answers the questions of the driver.

    actor's event loop      ask(message)         waits          -> reply
    thread of the worker    worker.score(batch)  computes

The worker lives in one thread: what it sets for its thread (a GPU, the number of threads) holds for
all questions. Questions to plain methods are answered one after another, in the order in which they
are asked; coroutines run concurrently, on a loop that steps engines.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from threading import Thread
from typing import Any

import psutil
import ray

from steadyrl.base.concurrency import await_if_needed
from steadyrl.base.errors import UserError
from steadyrl.base.progress_reports import ProgressReport, ProgressReporter
from steadyrl.engines.driver import EngineLoop
from steadyrl.run.placement.messages import Packed, pack, unpack
from steadyrl.run.placement.versions import check_versions, installed_versions


class WorkerActor:
    """An actor with a worker.

    Args:
        worker: Class of the worker as `module:Class`. It is constructed with a `Progress`.
        noun: Name of the actor in messages.
        versions: Versions of the driver.
        path: Where the driver finds modules.
        meets_at: Address at which ranks meet; None: the worker is not a rank.
    """

    def __init__(
        self,
        worker: str,
        noun: str,
        versions: Mapping[str, str],
        path: Sequence[str],
        meets_at: str | None,
    ) -> None:
        self._noun = noun
        self._reports: list[ProgressReport] = []
        self._refusal: UserError | None = None
        sys.path += [place for place in path if place not in sys.path]
        if not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # it has not reserved any
        node = ray.util.get_node_ip_address()
        if meets_at is not None:
            os.environ["MASTER_ADDR"] = meets_at
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _interface(node))
        try:
            check_versions(versions, installed_versions(), node)
        except UserError as error:
            self._refusal = error  # every question is answered by it
            return
        module, _, name = worker.partition(":")
        self._worker = getattr(import_module(module), name)(ProgressReporter(self._reports.append))
        self._loop = EngineLoop()
        Thread(target=self._loop.run_forever, daemon=True).start()

    async def ask(self, data: bytes, references: "list[ray.ObjectRef]") -> Packed:
        """The result of a method of the worker, or the exception that it raised, as a message."""
        if self._refusal is not None:
            return pack((None, self._refusal))
        reply = asyncio.run_coroutine_threadsafe(self._reply(data, references), self._loop)
        return await asyncio.wrap_future(reply)

    async def take_reports(self) -> list[ProgressReport]:
        """Progress since the last call."""
        count = len(self._reports)
        reports, self._reports[:count] = self._reports[:count], []
        return reports

    async def pid(self) -> int:
        """Id of the process on its node."""
        return os.getpid()

    async def _reply(self, data: bytes, references: "list[ray.ObjectRef]") -> Packed:
        try:
            question, args = unpack(data, references)
            answer: Any = getattr(self._worker, question)(*args)
            return pack((await await_if_needed(answer), None))
        except UserError as error:
            return pack((None, error))
        except Exception:
            text = f"The {self._noun} failed.\n{traceback.format_exc()}"
            return pack((None, RuntimeError(text)))


def _interface(address: str) -> str:
    """The network interface that has an address of this machine."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(own.address == address for own in addresses):
            return name
    return "lo"
