"""Divisions of a cluster between engines and the learner."""

from collections.abc import Iterator
from dataclasses import dataclass

from steadyrl.base.errors import UserError
from steadyrl.base.wording import count
from steadyrl.planning.hardware import Cluster
from steadyrl.planning.settings import PlanSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Devices of the engines and of the learner.

    Example:
        Layout(cluster=Cluster.parse("64xH100"), engine_devices=32, tensor_parallel=2)
    """

    cluster: Cluster

    engine_devices: int
    """Devices that sample. All of them: they train, too, in turns."""

    tensor_parallel: int

    @property
    def is_shared(self) -> bool:
        """Whether the same devices sample and train."""
        return self.engine_devices == self.cluster.devices

    @property
    def learner_devices(self) -> int:
        """Devices that train."""
        return self.cluster.devices - (0 if self.is_shared else self.engine_devices)

    @property
    def engines(self) -> int:
        """Number of engines."""
        return self.engine_devices // self.tensor_parallel

    def __str__(self) -> str:
        name = self.cluster.accelerator.name
        engines = f"{count(self.engines, 'engine')} of {self.tensor_parallel}"
        if self.is_shared:
            return f"{self.cluster} shared in turns by {engines} and the learner"
        return (
            f"{engines} on {self.engine_devices}x{name}, learner on {self.learner_devices}x{name}"
        )


def layouts(cluster: Cluster, settings: PlanSettings) -> Iterator[Layout]:
    """The divisions that the settings allow, with less tensor parallelism first.

    Raises:
        UserError: they allow none.
    """
    degrees = _degrees(cluster, settings)
    found = False
    for degree in degrees:
        for devices in _engine_devices(cluster, settings, degree):
            found = True
            yield Layout(cluster=cluster, engine_devices=devices, tensor_parallel=degree)
    if not found:
        raise UserError(
            f"--engine-gpus is {settings.engine_gpus} of {cluster.devices}: engines of "
            f"{settings.tensor_parallel} devices and a learner need a multiple of that number, and "
            "at least one device more. Give another number, or shared."
        )


def _degrees(cluster: Cluster, settings: PlanSettings) -> list[int]:
    """Numbers of devices of one engine: powers of two within a machine, or the given one."""
    most = min(cluster.devices, cluster.accelerator.per_machine)
    if settings.tensor_parallel == "auto":
        return [degree for degree in (1, 2, 4, 8) if degree <= most]
    if settings.tensor_parallel > most:
        raise UserError(
            f"--tensor-parallel is {settings.tensor_parallel}, but an engine has at most the "
            f"{most} devices of a machine. Lower it."
        )
    return [int(settings.tensor_parallel)]


def _engine_devices(cluster: Cluster, settings: PlanSettings, degree: int) -> list[int]:
    given = settings.engine_gpus
    if isinstance(given, int):
        return [given] if given < cluster.devices and given % degree == 0 else []
    shared = [cluster.devices] if cluster.devices % degree == 0 else []
    if given == "shared":
        return shared
    eighths = {cluster.devices * part // 8 // degree * degree for part in range(1, 8)}
    return [*shared, *sorted(eighths - {0, cluster.devices})]
