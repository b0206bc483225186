"""Seconds of the parts of a step, from operations, bytes and what a device reaches of its peaks.

rollout   decoding until the longest response ends; each decoded token reads weights and cache
scoring   forward passes of mini-batches after the first, and of a reference
update    forward and backward passes, against the weights that FSDP2 gathers for each
sync      bytes of the weights, and a time for each tensor
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from steadyrl.planning.hardware import Accelerator, Cluster, constant
from steadyrl.planning.shape import ModelShape
from steadyrl.planning.workload import Workload

FLOAT32 = 4
RECOMPUTED = 1
"""Forward passes that activation checkpointing adds to each forward and backward pass."""

BACKWARD = 2
"""Operations of a backward pass, in forward passes."""

OPTIMIZER_BYTES = 28
"""Bytes of a weight that an AdamW step reads and writes: weight, gradient and moments, and the
gradient that is cleared."""


def peak_operations(accelerator: Accelerator, itemsize: int) -> float:
    """Operations per second on numbers of `itemsize` bytes."""
    by_size = {1: accelerator.fp8, 2: accelerator.bfloat16, FLOAT32: accelerator.float32}
    return by_size[itemsize]


def _layer_seconds(accelerator: Accelerator, shape: ModelShape, *, eager: bool) -> float:
    """Time of a layer that does next to nothing."""
    if not eager:
        return accelerator.layer_seconds
    operations = constant("sparse_operations" if shape.is_sparse else "dense_operations")
    return operations * constant(
        "cpu_operation_seconds" if accelerator.is_cpu else "launch_seconds"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCost:
    """The time that one engine takes.

    Example:
        EngineCost(shape=shape, accelerator=ACCELERATORS["H100"], tensor_parallel=2, itemsize=2)
    """

    shape: ModelShape
    accelerator: Accelerator
    tensor_parallel: int = 1

    itemsize: int
    """Bytes of a weight."""

    cache_itemsize: int = 2
    """Bytes of a number in the cache."""

    eager: bool = False
    """Whether PyTorch runs operations one by one, as in the engine `local`."""

    def cache_bytes(self, positions: float) -> float:
        """Keys and values of a sequence on each device."""
        return self.shape.cached_values(positions) * self.cache_itemsize / self.tensor_parallel

    def prefill_seconds(self, tokens: float, length: float) -> float:
        """Time in which prompts of `length` with so many tokens together are read."""
        squares = tokens * length / 2
        operations = self.shape.pass_operations(tokens, 0.0, squares)
        return operations / self._reached("prefill")

    def decode_seconds(self, running: float, context: float) -> float:
        """Time in which `running` sequences with `context` positions each get a token."""
        read = self.shape.read_weights(running) * self.itemsize / self.tensor_parallel
        read += running * self.cache_bytes(context)
        reading = read / (self.accelerator.bandwidth * constant("bandwidth"))
        attended = running * 2 * context
        operations = self.shape.pass_operations(running, running, attended)
        layers = self.shape.layers * _layer_seconds(self.accelerator, self.shape, eager=self.eager)
        return (
            max(reading, operations / self._reached("prefill")) + layers + self._reductions(running)
        )

    def rollout_seconds(
        self, lengths: Sequence[float], *, prompt: float, group: int, slots: int
    ) -> float:
        """Time in which sequences of these lengths are sampled, at most `slots` at a time.

        Sequences begin in the given order, each as soon as a slot is free. Between two ends the
        same number is running, so the time is summed from end to end.
        """
        waiting = list(reversed(lengths))
        running: list[tuple[float, float]] = []  # decoded tokens at which each ends and has begun
        decoded = seconds = ages = 0.0
        while waiting or running:
            free = min(slots - len(running), len(waiting))
            for _ in range(free):
                heappush(running, (decoded + waiting.pop(), decoded))
            if free:
                seconds += self.prefill_seconds(prompt * free / group, prompt)
            tokens, width = running[0][0] - decoded, float(len(running))
            age = (ages + width * tokens / 2) / width
            seconds += tokens * self.decode_seconds(width, prompt + age)
            decoded += tokens
            ages += width * tokens
            while running and running[0][0] <= decoded:
                ages -= decoded - heappop(running)[1]
        return seconds

    def _reached(self, name: str) -> float:
        """Operations per second of all its devices."""
        peak = peak_operations(self.accelerator, self.itemsize)
        share = constant("cpu_training" if self.accelerator.is_cpu else name)
        return peak * share * self.tensor_parallel

    def _reductions(self, running: float) -> float:
        """Time of the all-reduces of tensor parallelism, two for each layer."""
        if self.tensor_parallel == 1:
            return 0.0
        size = running * self.shape.width * self.cache_itemsize
        moved = 2 * size * (1 - 1 / self.tensor_parallel) / self.accelerator.link
        return 2 * self.shape.layers * (constant("all_reduce_seconds") + moved)


def rollout_seconds(
    engine: EngineCost, work: Workload, *, engines: int, slots: int, together: int = 1
) -> float:
    """Time of one step's rollout by `engines` alike, of which the one with the longest counts.

    Args:
        slots: Sequences that each decodes at the same time.
        together: Steps whose rollouts are sampled at the same time, where they are sampled ahead.
    """
    lengths = work.lengths.quantiles(work.sequences * together)
    busiest = lengths[::-engines]
    Random(0).shuffle(busiest)
    seconds = engine.rollout_seconds(
        busiest, prompt=float(work.prompt), group=work.group, slots=slots
    )
    return seconds / together


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerCost:
    """The time that a learner takes on `devices` devices.

    Example:
        LearnerCost(shape=shape, cluster=Cluster.parse("32xH100"), itemsize=2,
                    micro_batch_tokens=8192, checkpointing=True)
    """

    shape: ModelShape

    cluster: Cluster
    """Devices that it computes on."""

    itemsize: int
    """Bytes of a weight in a pass."""

    micro_batch_tokens: int
    checkpointing: bool

    gathers: bool = True
    """Whether each pass gathers the weights, as FSDP2 does. False: they stay where they compute, as
    with Megatron's parallelism, whose messages are not counted."""

    def update_seconds(self, work: Workload) -> float:
        """Time of all updates of a step."""
        passes = 1 + BACKWARD + RECOMPUTED * self.checkpointing
        computing = passes * self._forward_operations(work) / self._reached(work)
        moved = float(self.shape.parameters * (2 * self.itemsize + FLOAT32))
        rounds = self._rounds(work, work.updates)
        return self._overlapped(computing, moved, rounds, passes) + self._optimizer(work.updates)

    def scoring_seconds(self, work: Workload) -> float:
        """Time of the forward passes of later mini-batches and of the reference."""
        scored = (1 - 1 / work.updates) + work.reference
        computing = scored * self._forward_operations(work) / self._reached(work)
        moved = float(self.shape.parameters * self.itemsize)
        rounds = scored * self._rounds(work, work.updates)
        return self._overlapped(computing, moved, rounds, 1)

    def _forward_operations(self, work: Workload) -> float:
        rows = work.sequences
        spread = work.lengths.mean_square / work.lengths.mean**2
        return sum(
            self.shape.pass_operations(
                rows * row.computed, rows * row.answered, rows * row.length**2 * spread
            )
            for row in work.rows
        )

    def _rounds(self, work: Workload, updates: int) -> float:
        """Passes of each rank. An update has at least one, and no rank computes half a row."""
        computed = work.sequences * sum(row.computed for row in work.rows) / updates
        largest = max(self.micro_batch_tokens, *(row.length for row in work.rows))
        return float(updates * max(1, math.ceil(computed / self.cluster.devices / largest)))

    def _overlapped(self, computing: float, moved: float, rounds: float, passes: int) -> float:
        """Time of passes that compute while the weights of their next layer are gathered."""
        eager = rounds * passes * self.shape.layers
        eager *= _layer_seconds(self.cluster.accelerator, self.shape, eager=True)
        if self.cluster.devices == 1:
            return computing + eager * self.cluster.accelerator.is_cpu
        moving = self.cluster.collective_seconds(moved, self.cluster.devices)
        return max(computing, eager, moving * rounds * self.gathers)

    def _optimizer(self, updates: int) -> float:
        accelerator = self.cluster.accelerator
        size = OPTIMIZER_BYTES * self.shape.parameters / self.cluster.devices
        return updates * size / (accelerator.bandwidth * constant("bandwidth"))

    def _reached(self, work: Workload) -> float:
        """Operations per second of all devices that have a row of an update."""
        accelerator = self.cluster.accelerator
        name = "sparse_training" if self.shape.is_sparse else "dense_training"
        share = constant("cpu_training" if accelerator.is_cpu else name)
        busy = float(self.cluster.devices)
        if self.gathers:  # no other parallelism divides a row
            busy = min(busy, work.sequences * len(work.rows) / work.updates)
        return peak_operations(accelerator, self.itemsize) * share * busy


def sync_seconds(shape: ModelShape, cluster: Cluster, itemsize: int, *, shared: bool) -> float:
    """Time in which all engines receive the weights.

    Between machines one stream carries every tensor over the network of one device; on shared
    devices it goes over the links of a machine.
    """
    size = shape.parameters * itemsize
    if cluster.devices == 1:
        return 2 * size / (cluster.accelerator.bandwidth * constant("bandwidth"))
    link = cluster.accelerator.link if shared else cluster.accelerator.network
    return size / (link * constant("links")) + shape.tensors * constant("tensor_seconds")
