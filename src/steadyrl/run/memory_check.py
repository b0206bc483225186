"""Refusal of runs and measurements that do not fit into memory."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.base.memory import available_memory
from steadyrl.learners.settings import LearnerSettings
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.model_size import ModelSize
from steadyrl.policies.small_copy import FAILURES
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.run.memory_plan import (
    MemoryPlan,
    RunSizes,
    held_memory,
    held_to_measure,
    plan_memory,
)

REMEDIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("learner.activation_checkpointing to true", {"activation_checkpointing": True}),
    (
        "learner.activation_checkpointing to true and learner.micro_batch_tokens to 1024",
        {"activation_checkpointing": True, "micro_batch_tokens": 1024},
    ),
    (
        "learner.lora.rank to 16, which trains an adapter instead of all weights",
        {"lora": LoraSettings()},
    ),
)
"""Changes of the learner that save memory, the cheapest first."""

NO_REMEDY = "No setting makes it fit: choose a smaller model, or a machine with more memory."


def require_memory(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, available: int | None = None
) -> None:
    """Checks that the run fits into memory, before weights are loaded.

    A run on a cluster of several machines is not checked.

    Args:
        available: Bytes that are free; None: those of this machine.

    Raises:
        UserError: it cannot; the message says what it needs, and what to change.
    """
    if not config.placement.fills_this_machine:
        return
    size = _size(config, tokenizer)
    if available is None:
        available = available_memory(learner_device(config))
    if size is None or rough_estimate(config, size) < available:
        return
    sizes = RunSizes.of(config, tokenizer)
    plan = plan_memory(config, sizes, available)
    if plan.share > 1:
        raise UserError(refusal(config, plan, sizes))


def require_memory_to_measure(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    moments: bool,
    available: int | None = None,
) -> None:
    """Checks that the model can be sampled from without training it, before weights are loaded.

    Args:
        moments: The weights are those of a run's checkpoint, which is loaded with its moments.
        available: Bytes that are free; None: those of this machine.

    Raises:
        UserError: it does not fit into memory; the message says what it needs.
    """
    size = _size(config, tokenizer)
    if size is None:
        return
    device = learner_device(config)
    if available is None:
        available = available_memory(device)
    held = held_to_measure(config, size, moments=moments)
    needed = sum(held.values())
    if needed > available:
        needs = _needs(size.parameters, needed, held, available, device.type)
        raise UserError(f"Measuring {needs} {NO_REMEDY}")


def _size(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> ModelSize | None:
    """The size of the model; None where loading it says what is wrong with its configuration."""
    try:
        return ModelSize.of(config.model, tokenizer, config.learner.lora)
    except FAILURES:
        return None


def refusal(config: RunConfig, plan: MemoryPlan, sizes: RunSizes) -> str:
    """Message for a run that does not fit: what it needs, and the first remedy that suffices."""
    items = {**plan.held, **plan.update}
    needs = _needs(sizes.model.parameters, plan.least, items, plan.available, plan.device)
    return f"Training {needs} {_remedy(config, sizes, plan.available)}"


def _needs(
    parameters: int, needed: int, items: Mapping[str, int], available: int, device: str
) -> str:
    """What so many parameters need, by the largest `items`, and what there is."""
    largest = sorted(items, key=lambda name: -items[name])[:4]
    parts = ", ".join(f"{gigabytes(items[name])} for {name}" for name in largest)
    place = "in main memory" if device == "cpu" else "on the GPU"
    return (
        f"{parameters / 1e9:.3g} billion parameters needs about {gigabytes(needed)} GB ({parts}), "
        f"but only {gigabytes(available)} GB are free {place}."
    )


def _remedy(config: RunConfig, sizes: RunSizes, available: int) -> str:
    for words, changes in REMEDIES:
        learner: LearnerSettings = config.learner.model_copy(update=changes)
        changed = config.model_copy(update={"learner": learner})
        if plan_memory(changed, sizes, available).share <= 1:
            return f"Set {words}."
    return NO_REMEDY


def gigabytes(size: int) -> str:
    """`size` bytes in GB, to three digits."""
    return f"{size / 1e9:.3g}"


def rough_estimate(config: RunConfig, size: ModelSize) -> int:
    """A generous estimate of the peak, which needs no passes."""
    learner = config.learner
    itemsize = getattr(torch, learner.dtype).itemsize
    activations = learner.micro_batch_tokens * size.rough_activations(itemsize)
    return sum(held_memory(config, size).values()) + activations + (learner.logits_memory << 20)
