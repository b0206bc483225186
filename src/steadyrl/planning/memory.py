"""Bytes that a plan puts on one device, by purpose."""

from dataclasses import dataclass

from steadyrl.planning.costs import EngineCost
from steadyrl.planning.hardware import constant
from steadyrl.planning.layout import Layout
from steadyrl.planning.reading import learner_itemsize
from steadyrl.planning.shape import ModelShape
from steadyrl.planning.workload import Workload
from steadyrl.policies.model_size import ModelSize, PassMemory
from steadyrl.run.config import RunConfig
from steadyrl.run.memory_plan import (
    RunSizes,
    held_by_ranks,
    held_memory,
    longest_response,
    update_memory,
)

HALF = 2
"""Bytes of a bfloat16 number, in which activations were counted."""

ELSEWHERE = ("engine's weights", "initial weights", "routes")
"""What the plan of one machine counts and a device of the learner does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Bytes on one device, by purpose. With apart engines and learner, one for each kind.

    Example:
        DeviceMemory(held={"weights": 4e9}, update={"activations": 2e9}, usable=72e9,
                     sequence=0.2e9)
    """

    held: dict[str, float]
    """At all times."""

    update: dict[str, float]
    """While a micro-batch is computed."""

    usable: float

    sequence: float
    """Keys and values of one sequence of maximum length; 0 without an engine."""

    @property
    def least(self) -> float:
        """Bytes that it must have."""
        return sum(self.held.values()) + max(sum(self.update.values()), self.sequence)

    @property
    def cache(self) -> float:
        """Bytes left for keys and values."""
        return max(0.0, self.usable - sum(self.held.values())) if self.sequence else 0.0

    @property
    def fits(self) -> bool:
        """Whether the device holds it."""
        return self.least <= self.usable


def engine_memory(engine: EngineCost, work: Workload) -> DeviceMemory:
    """One device of an engine."""
    weights = engine.shape.parameters * engine.itemsize / engine.tensor_parallel
    return DeviceMemory(
        held={"engine's weights": weights},
        update={},
        usable=engine.accelerator.memory * constant("usable_memory"),
        sequence=engine.cache_bytes(float(work.prompt + work.lengths.maximum)),
    )


def learner_memory(
    config: RunConfig, shape: ModelShape, work: Workload, layout: Layout
) -> DeviceMemory:
    """One device of the learner, by the rules of `run.memory_plan`."""
    size = ModelSize(
        parameters=shape.parameters,
        layers=shape.layers,
        width=shape.width,
        vocabulary=shape.vocabulary,
        experts_per_token=shape.experts_per_token,
    )
    itemsize = learner_itemsize(config)
    activations = shape.layer_activations * shape.layers * itemsize / HALF
    passes = PassMemory(activations=activations, cache=0)
    longest = int(max(row.length - row.answered for row in work.rows)) + longest_response(config)
    sizes = RunSizes(model=size, passes=passes, length=longest)
    ranks = layout.learner_devices
    held = held_by_ranks(config, size, shards=ranks) if ranks > 1 else held_memory(config, size)
    update = update_memory(config, sizes)
    return DeviceMemory(
        held={name: float(bytes_) for name, bytes_ in held.items() if name not in ELSEWHERE},
        update={name: float(bytes_) for name, bytes_ in update.items() if name not in ELSEWHERE},
        usable=layout.cluster.accelerator.memory * constant("usable_memory"),
        sequence=0.0,
    )


def shared_memory(engine: DeviceMemory, learner: DeviceMemory) -> DeviceMemory:
    """A device of both."""
    return DeviceMemory(
        held={**engine.held, **learner.held},
        update=learner.update,
        usable=engine.usable,
        sequence=engine.sequence,
    )
