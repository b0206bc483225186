"""Refusal of runs that do not fit into memory."""

from typing import Any

import torch

from steadyrl.base.errors import UserError
from steadyrl.base.memory import available_memory
from steadyrl.learners.settings import LearnerSettings
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.model_size import ModelSize
from steadyrl.policies.small_copy import FAILURES
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.run.memory_plan import MemoryPlan, RunSizes, held_memory, plan_memory

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


def require_memory(config: RunConfig, available: int | None = None) -> None:
    """Checks that the run fits into memory, before weights are loaded.

    Args:
        available: Bytes that are free; None: those of this machine.

    Raises:
        UserError: it cannot; the message says what it needs, and what to change.
    """
    tokenizer = load_tokenizer(config.model)
    try:
        size = ModelSize.of(config.model, tokenizer, config.learner.lora)
    except FAILURES:  # loading the model says what is wrong with its configuration
        return
    if available is None:
        available = available_memory(learner_device(config))
    if rough_estimate(config, size) < available:
        return
    sizes = RunSizes.of(config, tokenizer)
    plan = plan_memory(config, sizes, available)
    if plan.share > 1:
        raise UserError(refusal(config, plan, sizes))


def refusal(config: RunConfig, plan: MemoryPlan, sizes: RunSizes) -> str:
    """Message for a run that does not fit: what it needs, and the first remedy that suffices."""
    items = {**plan.held, **plan.update}
    largest = sorted(items, key=lambda name: -items[name])[:4]
    parts = ", ".join(f"{gigabytes(items[name])} for {name}" for name in largest)
    place = "in main memory" if plan.device == "cpu" else "on the GPU"
    return (
        f"Training {sizes.model.parameters / 1e9:.3g} billion parameters needs about "
        f"{gigabytes(plan.least)} GB ({parts}), but only {gigabytes(plan.available)} GB are free "
        f"{place}. {_remedy(config, sizes, plan.available)}"
    )


def _remedy(config: RunConfig, sizes: RunSizes, available: int) -> str:
    for words, changes in REMEDIES:
        learner: LearnerSettings = config.learner.model_copy(update=changes)
        changed = config.model_copy(update={"learner": learner})
        if plan_memory(changed, sizes, available).share <= 1:
            return f"Set {words}."
    return "No setting makes it fit: choose a smaller model, or a machine with more memory."


def gigabytes(size: int) -> str:
    """`size` bytes in GB, to three digits."""
    return f"{size / 1e9:.3g}"


def rough_estimate(config: RunConfig, size: ModelSize) -> int:
    """A generous estimate of the peak, which needs no passes."""
    learner = config.learner
    itemsize = getattr(torch, learner.dtype).itemsize
    activations = learner.micro_batch_tokens * size.rough_activations(itemsize)
    return sum(held_memory(config, size).values()) + activations + (learner.logits_memory << 20)
