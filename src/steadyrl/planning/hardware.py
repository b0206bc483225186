"""Devices and clusters: published peaks, and what is reached of them.

Every number has its source, in `accelerators.toml` and `constants.toml` beside this file.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.base.text import nearest_or_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Peaks of one device: operations and bytes per second, bytes, seconds.

    Example:
        ACCELERATORS["H100"].bandwidth  # 3.35e12
    """

    name: str
    float32: float
    bfloat16: float
    fp8: float

    bandwidth: float
    """Of its memory."""

    memory: float

    link: float
    """To the other devices of its machine, in one direction."""

    network: float
    """To devices of other machines, in one direction."""

    per_machine: int
    """Devices of one machine."""

    layer_seconds: float
    """Time that an engine takes for each layer and decoded token beside reading and computing."""

    source: str

    @property
    def is_cpu(self) -> bool:
        """Whether it runs PyTorch's operations one by one, at a cost for each."""
        return self.name == "CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A number of the cost model.

    Example:
        CONSTANTS["bandwidth"].value  # 0.8
    """

    value: float
    about: str
    source: str


def _read(name: str) -> dict[str, dict[str, Any]]:
    text = (files("steadyrl.planning") / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


ACCELERATORS: Mapping[str, Accelerator] = MappingProxyType(
    {name: Accelerator(name=name, **row) for name, row in _read("accelerators").items()}
)

CONSTANTS: Mapping[str, Constant] = MappingProxyType(
    {name: Constant(**row) for name, row in _read("constants").items()}
)


def constant(name: str) -> float:
    """The value of a constant."""
    return CONSTANTS[name].value


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Devices of one kind.

    Example:
        Cluster.parse("64xH100")
    """

    accelerator: Accelerator
    devices: int

    @classmethod
    def parse(cls, text: str) -> "Cluster":
        """The cluster that `text` names, such as 64xH100.

        Raises:
            UserError: it names none.
        """
        found = re.fullmatch(r"([1-9][0-9]*)\s*[x*]?\s*([A-Za-z][A-Za-z0-9]*)", text.strip())
        if found is None:
            raise UserError(
                f"--gpus is {text!r}, expected a number and a device, such as 64xH100. The devices "
                f"are {', '.join(ACCELERATORS)}."
            )
        names = {name.lower(): name for name in ACCELERATORS}
        name = found[2].lower()
        if name not in names:
            hint = nearest_or_all(found[2].upper(), [*ACCELERATORS], "The devices are")
            raise UserError(f"--gpus names the device {found[2]!r}, which is not known. {hint}")
        return cls(accelerator=ACCELERATORS[names[name]], devices=int(found[1]))

    def __str__(self) -> str:
        return f"{self.devices}x{self.accelerator.name}"

    def with_devices(self, devices: int) -> "Cluster":
        """The same device, in another number."""
        return Cluster(accelerator=self.accelerator, devices=devices)

    def collective_seconds(self, size: float, devices: int) -> float:
        """Time in which each of `devices` has gathered `size` bytes that they hold in shards.

        Every byte enters each device over its link and each machine over the network once. A
        reduction that scatters its result takes as long.
        """
        accelerator = self.accelerator
        near = min(devices, accelerator.per_machine)
        within = size * (1 - 1 / near) / accelerator.link
        between = 0.0
        if devices > near:
            between = size * (1 - near / devices) / (near * accelerator.network)
        return max(within, between) / constant("links")
