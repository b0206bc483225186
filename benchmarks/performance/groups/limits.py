"""How near an update comes to the operations, a rollout to the bytes, that the machine can move."""

from collections.abc import Iterator
from functools import partial

import torch
from benchmarks.performance.context import Context
from benchmarks.performance.groups.rollout import OurRollout
from benchmarks.performance.groups.update import (
    STRICT,
    OurUpdate,
    first_rows,
    rollout_batch,
    with_signal,
)
from benchmarks.performance.limits import (
    memory_bandwidth,
    peak_operations,
    rollout_bytes,
    rollout_operations,
    update_operations,
)
from benchmarks.performance.records import Measured, Row, attempt
from benchmarks.performance.timing import interleaved, spread, summary
from benchmarks.performance.workloads import small_and_large
from benchmarks.performance.worlds import World

from steadyrl.policies.shared_prefixes import shared_lengths

ROUNDS = 2

UPDATED_ROWS = 64
"""Of a rollout: enough to fill the machine."""


def rows(context: Context) -> Iterator[Row]:
    """W1 and W2."""
    rounds = context.rounds(ROUNDS)
    for world in small_and_large(context):
        name = world.name.lower()
        yield attempt(
            f"update-{name}-peak",
            f"update, {world.name}, operations",
            partial(update_share, world, rounds),
        )
        yield attempt(
            f"rollout-{name}-bandwidth",
            f"rollout, {world.name}, bytes",
            partial(rollout_share, world, rounds),
        )


def update_share(world: World, rounds: int) -> Measured:
    """Operations that an update needs, over those that large products do in its time (MFU)."""
    batch = first_rows(with_signal(rollout_batch(world), every=1), UPDATED_ROWS)
    samples = interleaved({"ours": partial(OurUpdate(world, STRICT), batch)}, rounds=rounds)
    shared = shared_lengths(batch.tokens, batch.attention_mask, batch.group_ids)
    begins = torch.cat([torch.ones(1).bool(), batch.group_ids.diff() != 0])
    repeated = torch.where(begins, 0, shared)
    operations = update_operations(
        world.model(), batch.lengths, repeated, int(batch.loss_mask.sum())
    )
    peak = peak_operations(world.device, world.dtype)
    return Measured(
        value=spread([operations / sample.seconds / peak for sample in samples["ours"]]),
        unit=f"of the {peak:.3g} operations/s of a large product",
        details={"ours": summary(samples["ours"]), "operations": operations},
    )


def operations_share(world: World, rounds: int) -> Measured:
    """Operations that a rollout needs, over those that large products do in its time."""
    ours = OurRollout(world)
    model, size = world.model(), world.group_size
    prompts = [len(ids) for ids in world.prompt_ids(world.tokenizer())]
    shares, samples = [], []
    peak = peak_operations(world.device, world.dtype)
    for _ in range(rounds):
        samples.append(ours())
        answers = [
            ours.lengths[start : start + size] for start in range(0, len(ours.lengths), size)
        ]
        operations = rollout_operations(model, prompts, answers)
        shares.append(operations / samples[-1].seconds / peak)
    return Measured(
        value=spread(shares),
        unit=f"of the {peak:.3g} operations/s of a large product",
        details={"ours": summary(samples), "workload": ours.describe()},
    )


def rollout_share(world: World, rounds: int, *, batch: int | None = None) -> Measured:
    """Bytes that a rollout must read, over those that a copy moves in its time.

    Every step reads all weights once, and each sequence its own keys and values.
    """
    running = batch or world.prompts * world.group_size
    ours = OurRollout(world, max_running=running)
    samples = interleaved({"ours": ours}, rounds=rounds, warmups=0)["ours"]
    prompts = [len(ids) for ids in world.prompt_ids(world.tokenizer())]
    read = rollout_bytes(world.model(), sum(prompts) / len(prompts), ours.lengths, running=running)
    bandwidth = memory_bandwidth(world.device)
    return Measured(
        value=spread([read / sample.seconds / bandwidth for sample in samples]),
        unit=f"of the {bandwidth:.3g} bytes/s of a large copy",
        details={"ours": summary(samples), "bytes": read},
    )
