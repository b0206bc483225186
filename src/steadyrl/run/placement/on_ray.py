"""Engines and ranks in actors of a Ray cluster.

driver   loop, algorithm, environment, logs    placement group   one bundle for each actor
         RayEngine  --requests, weights-->     bundle 0 ... E-1  engines
         RankGroup  --passes, questions-->     bundle E ...      ranks, which meet at the driver
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Engine
from steadyrl.learners.fsdp.hosts import (
    WORKER,
    DeviceType,
    InitialWeights,
    RankHost,
    RankProcess,
    rank_ended,
)
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.policies.policy import Policy
from steadyrl.records.shared_weights import Layout
from steadyrl.run.config import RunConfig
from steadyrl.run.placement.actor_process import ActorProcess
from steadyrl.run.placement.cluster import Bundle, RayCluster
from steadyrl.run.placement.ray_engine import EngineEndedError, PlacedEngine, RayEngine
from steadyrl.run.placement.settings import EmbeddedPlacement, RayPlacement
from steadyrl.run.placement.stored_weights import put_weights

_GRACE = 60.0
"""Seconds in which Ray notices that a node has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRanks:
    """Runs ranks in actors. See `RankHost` for what each method does."""

    cluster: RayCluster
    first_bundle: int
    reserved: Bundle
    device_type: DeviceType
    grace: float = _GRACE

    @property
    def address(self) -> str:
        """Address of this process, at which the ranks meet."""
        return self.cluster.node

    def start(self, rank: int, progress: Progress) -> RankProcess:
        """Starts a rank in an actor."""
        return self.cluster.start(
            self.first_bundle + rank,
            WORKER,
            reserved=self.reserved,
            noun=f"learner's rank {rank}",
            ended=partial(rank_ended, rank),
            progress=progress,
            meets_at=self.address,
        )

    @contextmanager
    def share(self, weights: Mapping[str, Tensor], layout: Layout) -> Iterator[InitialWeights]:
        """Puts `weights` into the object store, which drops them at the end."""
        yield put_weights((name, weights[name].to(dtype)) for name, (_, dtype) in layout.items())


class OnRay:
    """A placement on Ray. See `Placement` for what each method does.

    Raises:
        UserError: the cluster cannot be reached, has other versions, or has no room.
    """

    def __init__(self, settings: RayPlacement, config: RunConfig, progress: Progress) -> None:
        self._settings = settings
        # In an actor, the engine is in the process that builds it.
        self._config = config.model_copy(update={"placement": EmbeddedPlacement()})
        progress.begin("connecting to the Ray cluster")
        self._cluster = RayCluster(settings.address, settings.connect_timeout)
        try:
            device = self._device_type()
            gpus = settings.gpus_per_engine
            per_engine = float(device == "cuda") if gpus == "auto" else gpus
            self._for_engine = {"CPU": settings.cpus, "GPU": per_engine}
            ranks = config.learner.ranks if isinstance(config.learner, FsdpLearnerSettings) else 0
            for_rank = {"CPU": settings.cpus, "GPU": float(device == "cuda")}
            progress.begin("waiting for room in the Ray cluster")
            self._cluster.reserve([self._for_engine] * settings.engines + [for_rank] * ranks)
            self.rank_host: RankHost | None = ActorRanks(
                cluster=self._cluster,
                first_bundle=settings.engines,
                reserved=for_rank,
                device_type=device,
            )
        except BaseException:
            self.close()
            raise

    def engine(self, policy: Policy, progress: Progress) -> Engine:
        """The engines, which have the initial weights of `policy`."""
        engines = [
            PlacedEngine(
                number,
                partial(self._start, number),
                (self._config,),
                timeout=self._settings.timeout,
                restarts=self._settings.restarts,
            )
            for number in range(self._settings.engines)
        ]
        try:
            capabilities = drive(concurrently(engine.begin() for engine in engines))
        except EngineEndedError as error:
            raise UserError(
                f"{error}. See Ray's logs on its node for the cause, and start the run again."
            ) from error
        return RayEngine(engines, capabilities[0], progress)

    def close(self) -> None:
        """Ends all actors, and a local cluster."""
        self._cluster.close()

    def _start(self, number: int) -> ActorProcess:
        return self._cluster.start(
            number,
            "steadyrl.run.placement.engine_worker:EngineWorker",
            reserved=self._for_engine,
            noun=f"engine {number}",
            ended=lambda reason: EngineEndedError(f"Engine {number} ended ({reason})"),
            progress=NO_PROGRESS,
        )

    def _device_type(self) -> DeviceType:
        learner, gpus = self._config.learner, self._cluster.gpus
        if learner.device == "cuda" and gpus == 0:
            raise UserError(
                "learner.device is 'cuda', but the Ray cluster has no GPUs. Use 'auto' or 'cpu', "
                "or add nodes with GPUs."
            )
        if learner.device == "cpu" or gpus == 0:
            return "cpu"
        if not self._settings.is_elsewhere(learner) and torch.cuda.is_available():
            raise UserError(
                f"The learner {learner.name!r} computes in this process, on a GPU that Ray gives "
                "to engines as well. Use --learner fsdp, with --learner.ranks 1 for one GPU."
            )
        return "cuda"
