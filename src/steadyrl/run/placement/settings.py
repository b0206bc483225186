"""Settings of where the parts of a run are."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.base.progress import Progress
from steadyrl.base.variants import Variant, Variants
from steadyrl.engines.engine_settings import EngineSettings
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.settings import LearnerSettings
from steadyrl.run.placement.addresses import local_cpus, port_of

if TYPE_CHECKING:
    from steadyrl.run.config import RunConfig
    from steadyrl.run.placement.protocol import Placement


class PlacementSettings(Variant):
    """Base class of the settings of placements."""

    restarts: int = Field(3, ge=0)
    """Number of times that a process with an engine is started anew between two syncs: an engine of
    `ray`, or the rollout process of `engine.overlap`. On `ray`, also the number of times that the
    run resumes by itself between two checkpoints after a rank has ended."""

    @property
    def engine_count(self) -> int:
        """Number of engines, each with the whole model."""
        return 1

    @property
    def resumes(self) -> int:
        """Number of times in a row that a run resumes by itself after the loss of a rank."""
        return 0

    @property
    def fills_this_machine(self) -> bool:
        """Whether all parts of a run share the memory of this machine."""
        return True

    @property
    def engines_are_elsewhere(self) -> bool:
        """Whether engines compute in other processes, so that a thread suffices for rollouts beside
        updates.
        """
        return False

    def is_elsewhere(self, learner: LearnerSettings) -> bool:
        """Whether the learner computes in processes whose devices this process does not have."""
        return False

    def check_fits(self, engine: EngineSettings, learner: LearnerSettings) -> None:
        """Checks that engine and learner can be placed.

        Raises:
            ValueError: they cannot; the message gives the remedy.
        """

    @abstractmethod
    def open(self, config: "RunConfig", progress: Progress) -> "Placement":
        """The placement of a run.

        Raises:
            UserError: a package is missing, or the cluster cannot be used.
        """


class EmbeddedPlacement(PlacementSettings):
    """Loop and engine in this process, ranks of a learner on this machine."""

    name: Literal["embedded"] = "embedded"

    def open(self, config: "RunConfig", progress: Progress) -> "Placement":
        """The placement of a run."""
        from steadyrl.run.placement.embedded import Embedded

        return Embedded(config)


class RayPlacement(PlacementSettings):
    """Engines and ranks of a sharded learner in actors of a Ray cluster, the loop here."""

    name: Literal["ray"] = "ray"

    address: str = "auto"
    """The cluster. auto: the one that runs on this machine, or that RAY_ADDRESS names. HOST:PORT:
    that of the head node. local:N: a cluster of N CPUs on this machine, which ends with the
    run."""

    engines: int = Field(2, ge=1)
    """Number of engines, over which requests are spread. Each has the whole model."""

    cpus: float = Field(0.5, gt=0, allow_inf_nan=False)
    """CPUs that each engine and each rank of learner 'fsdp' reserves. Engines and ranks take turns,
    so that two of them can share a CPU."""

    gpus_per_engine: float | Literal["auto"] = "auto"
    """GPUs that each engine reserves. auto: 1 if the cluster has GPUs and `learner.device` is not
    'cpu', otherwise 0. Each rank reserves 1 then."""

    connect_timeout: float = Field(120.0, gt=0, allow_inf_nan=False)
    """Maximum seconds until a head node at HOST:PORT answers, and then until the cluster has room
    for all engines and ranks."""

    timeout: float = Field(1800.0, gt=0, allow_inf_nan=False)
    """Maximum seconds until an engine has started, loaded weights, scored or answered a request.
    Then it is started anew. `learner.timeout` is the limit of ranks."""

    @field_validator("address")
    @classmethod
    def _check_address(cls, address: str) -> str:
        if address == "auto" or local_cpus(address) is not None or port_of(address) is not None:
            return address
        through = (
            "Ray Client (ray://) is not supported: run steadyrl on a node of the cluster. "
            if address.startswith("ray://")
            else ""
        )
        raise ValueError(f"got {address!r}. {through}Use auto, HOST:PORT or local:N, as in local:2")

    @field_validator("gpus_per_engine")
    @classmethod
    def _check_gpus(cls, gpus: float | str) -> float | str:
        if isinstance(gpus, float) and not 0 <= gpus < float("inf"):
            raise ValueError(f"got {gpus}, expected: auto, or a number that is at least 0")
        return gpus

    @property
    def engine_count(self) -> int:
        """Number of engines, each with the whole model."""
        return self.engines

    @property
    def resumes(self) -> int:
        """Number of times in a row that a run resumes by itself after the loss of a rank."""
        return self.restarts

    @property
    def fills_this_machine(self) -> bool:
        """Whether the cluster is this machine alone."""
        return local_cpus(self.address) is not None

    @property
    def engines_are_elsewhere(self) -> bool:
        """They are in actors."""
        return True

    def is_elsewhere(self, learner: LearnerSettings) -> bool:
        """Whether the learner computes in actors."""
        return isinstance(learner, FsdpLearnerSettings)

    def check_fits(self, engine: EngineSettings, learner: LearnerSettings) -> None:
        """Checks that engine and learner can be placed."""
        if engine.memory(itemsize=4).weights == 0:
            raise ValueError(
                f"placement is 'ray', but the engine {engine.name!r} is on a server of its own, so "
                "there is nothing to place. Use placement 'embedded', or leave engine.url out."
            )

    def open(self, config: "RunConfig", progress: Progress) -> "Placement":
        """The placement of a run: engines and ranks are placed, and started when asked for."""
        try:
            require_extra("ray", "ray")
        except UserError as error:
            raise UserError(f"placement is 'ray'. {error}") from error
        from steadyrl.run.placement.on_ray import OnRay

        return OnRay(self, config, progress)


AnyPlacement = Annotated[
    PlacementSettings, Variants(PlacementSettings, None, EmbeddedPlacement, RayPlacement)
]
"""Settings of any placement."""
