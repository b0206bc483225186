"""Memory that a run will take, planned from its configuration before any weights are loaded.

    held       weights, masters, moments, gradients, reference; the engine's weights
    update     activations and logits of one micro-batch         (not at the same time
    rollout    keys and values of the sequences being written     as these)

The peak is what is held plus the larger of the other two. What PyTorch, Python and the tasks take
besides is not in the plan; docs/preflight.md compares it with measured peaks.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from steadyrl.base.memory import available_memory
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.micro_batches import LEAST_SAVING
from steadyrl.policies.model_size import ModelSize, PassMemory, pass_memory
from steadyrl.policies.token_scores import WORKING_MEMORY
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device

FLOAT32 = 4
TRAINING_ONLY = ("gradients", "reference policy")
"""What a model that is measured and not trained does without."""

MOST_TURNS = 1 << 20
"""Turns of an episode, where the algorithm sets no limit."""

PROMPT = 256
"""Tokens of a prompt, where no task has been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes by purpose, on the learner's device.

    Example:
        MemoryPlan(held={"weights": 538 << 20}, update={"activations": 1 << 30},
                   rollout={"keys and values": 94 << 20}, available=8 << 30, device="cpu")
    """

    held: dict[str, int]
    """At all times."""

    update: dict[str, int]
    """While a micro-batch is computed."""

    rollout: dict[str, int]
    """While answers are written. The engine makes do with less if it has to."""

    least_rollout: int
    """Bytes with which the engine can write one answer at a time."""

    available: int
    device: str

    @property
    def peak(self) -> int:
        """The most that the run takes at once."""
        return sum(self.held.values()) + max(sum(self.update.values()), sum(self.rollout.values()))

    @property
    def least(self) -> int:
        """The same with an engine that makes do with the least."""
        return sum(self.held.values()) + max(sum(self.update.values()), self.least_rollout)

    @property
    def share(self) -> float:
        """Its least peak as a share of the memory that is there."""
        return self.least / max(1, self.available)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSizes:
    """Properties of the model and the tasks that a plan depends on."""

    model: ModelSize

    passes: PassMemory | None
    """None for families that need data to run: their activations are estimated."""

    length: int
    """Tokens of the longest row: what is given, and the longest answers of all its turns."""

    @classmethod
    def of(
        cls, config: RunConfig, tokenizer: PreTrainedTokenizerBase, prompt: int = PROMPT
    ) -> "RunSizes":
        """The sizes of a run.

        Args:
            prompt: Tokens of a row that are given: its prompt, and what later turns add to it.

        Raises:
            UserError: the checkpoint has no configuration that can be read.
        """
        model = ModelSize.of(config.model, tokenizer, config.learner.lora)
        length = prompt + longest_response(config)
        length = length if model.positions is None else min(length, model.positions)
        passes = pass_memory(
            config.model,
            tokenizer,
            routed=model.experts_per_token > 0,
            dtype=getattr(torch, config.learner.dtype),
            length=length,
        )
        return cls(model=model, passes=passes, length=length)


def plan_memory(config: RunConfig, sizes: RunSizes, available: int | None = None) -> MemoryPlan:
    """The plan of `config`.

    Args:
        available: Bytes that are free; None: those of this machine.
    """
    one = _keys_and_values(config, sizes)
    sequences = min(_running(config), responses_of_step(config))
    device = learner_device(config)
    return MemoryPlan(
        held=held_memory(config, sizes.model),
        update=update_memory(config, sizes, ranks_here=_ranks(config)[1]),
        rollout={"keys and values": _limited(config, one * sequences)} if one else {},
        least_rollout=one,
        available=available_memory(device) if available is None else available,
        device=device.type,
    )


def held_memory(config: RunConfig, size: ModelSize) -> dict[str, int]:
    """Bytes that the run never lets go, without those that are none."""
    count, itemsize = size.parameters, getattr(torch, config.learner.dtype).itemsize
    if isinstance(config.learner, FsdpLearnerSettings):
        return _held_in_shards(config, size, itemsize)
    if config.learner.lora is not None:
        return _held_with_adapter(config, size, itemsize)
    lowered = itemsize < FLOAT32
    held = {
        "weights": count * itemsize,
        "float32 masters": count * FLOAT32 * lowered,
        "moments": 2 * count * FLOAT32,
        "gradients": count * (FLOAT32 + itemsize * lowered),
        "reference policy": count * itemsize * config.algorithm.needs_reference,
        "engine's weights": _weights_of_engines(config, size, itemsize),
    }
    return {name: size for name, size in held.items() if size}


def _weights_of_engines(config: RunConfig, size: ModelSize, itemsize: int) -> int:
    """Bytes of the weights of all engines."""
    return size.parameters * config.engine.memory(itemsize).weights * config.placement.engine_count


def held_to_measure(config: RunConfig, size: ModelSize, *, moments: bool) -> dict[str, int]:
    """Bytes that sampling from a model takes at all times, without training it.

    Args:
        moments: The weights are those of a run's checkpoint, which is loaded with its moments.
    """
    unused = TRAINING_ONLY if moments else (*TRAINING_ONLY, "moments")
    held = held_memory(config, size)
    return {name: size for name, size in held.items() if name not in unused}


def _held_with_adapter(config: RunConfig, size: ModelSize, itemsize: int) -> dict[str, int]:
    """The same where an adapter is trained, which is float32 over a base of any dtype."""
    adapter = size.adapter * FLOAT32
    engine = config.engine.memory(itemsize)
    held = {
        "weights": size.parameters * itemsize,
        "adapter": adapter,
        "moments": 2 * adapter,
        "gradients": adapter,
        "reference policy": adapter * config.algorithm.needs_reference,
        "merged weights": size.parameters * engine.merging,
        "engine's weights": _weights_of_engines(config, size, itemsize),
    }
    return {name: size for name, size in held.items() if size}


def _held_in_shards(config: RunConfig, size: ModelSize, itemsize: int) -> dict[str, int]:
    """The same where ranks hold shards: all of them in main memory, or one on each GPU."""
    shards, ranks_here = _ranks(config)
    copied = size.parameters if config.learner.lora is None else size.adapter
    copied *= getattr(config.learner, "background_saves", False) is True and shards == 1
    held = held_by_ranks(config, size, shards=shards, ranks_here=ranks_here) | {
        "initial weights": size.parameters * itemsize,  # in the process of the loop
        "engine's weights": _weights_of_engines(config, size, itemsize),
        "copies for a checkpoint": 3 * FLOAT32 * copied,  # on GPUs they are in other memory
    }
    return {name: size for name, size in held.items() if size}


def held_by_ranks(
    config: RunConfig, size: ModelSize, *, shards: int, ranks_here: int = 1
) -> dict[str, int]:
    """Bytes that ranks of FSDP2 hold in one memory.

    Args:
        shards: Number of memories that the weights are divided over.
        ranks_here: Number of ranks that compute in this one.
    """
    itemsize = getattr(torch, config.learner.dtype).itemsize
    adapts = config.learner.lora is not None
    trained = size.adapter if adapts else size.parameters
    base = size.parameters * itemsize * adapts
    gathered = 2 * (size.parameters * itemsize) // max(1, size.layers)  # and the next layer
    held = {
        "weights": (base + trained * FLOAT32) // shards,
        "moments": 2 * trained * FLOAT32 // shards,
        "gradients": trained * FLOAT32 // shards,
        "gathered layers": gathered * ranks_here,
        "reference policy": (base + trained * FLOAT32) // shards * config.algorithm.needs_reference,
    }
    return {name: size for name, size in held.items() if size}


def _ranks(config: RunConfig) -> tuple[int, int]:
    """Shards of the weights in different memories, and ranks that compute in this one."""
    learner = config.learner
    if not isinstance(learner, FsdpLearnerSettings):
        return 1, 1
    on_gpus = learner_device(config).type == "cuda"
    return (learner.ranks, 1) if on_gpus else (1, learner.ranks)


def update_memory(config: RunConfig, sizes: RunSizes, *, ranks_here: int = 1) -> dict[str, int]:
    """Bytes that a micro-batch takes of each of `ranks_here` ranks, and a rollout's records."""
    learner, size, passes, length = config.learner, sizes.model, sizes.passes, sizes.length
    itemsize = getattr(torch, learner.dtype).itemsize
    answer = min(length, longest_response(config))
    row = row_positions(config, float(length), answer=float(answer))
    positions = int(max(length, min(learner.micro_batch_tokens, responses_of_step(config) * row)))
    saved = size.rough_activations(itemsize) / 2 if passes is None else passes.activations
    activations = positions * saved
    if learner.activation_checkpointing:
        one_layer = activations / max(1, size.layers)
        activations = one_layer + positions * size.layers * size.width * itemsize
    answered = int(positions * min(1.0, answer / row))
    logits = answered * size.vocabulary * FLOAT32
    if logits > learner.logits_memory << 20:
        logits = 0
    working = 2 * min(WORKING_MEMORY, answered * size.vocabulary * FLOAT32)
    routes = responses_of_step(config) * length * size.layers * size.experts_per_token
    read = min(config.algorithm.reads_candidates, size.vocabulary)
    candidates = responses_of_step(config) * answer * read * 3 * FLOAT32  # ids, log mu, log pi_old
    update = {
        "activations": int(activations) * ranks_here,
        "logits": (logits + working) * ranks_here,
        "routes": routes,
        "candidates": candidates,
    }
    return {name: size for name, size in update.items() if size}


def row_positions(config: RunConfig, length: float, *, answer: float) -> float:
    """Positions that a row of `length` tokens computes, its share of a shared prompt included.

    Args:
        answer: Its tokens after the prompt.
    """
    group = getattr(config.algorithm, "group_size", 1)
    shared = answer + (length - answer) / group
    if config.learner.share_prefixes == "never" or shared > (1 - LEAST_SAVING) * length:
        return length
    return shared


def _keys_and_values(config: RunConfig, sizes: RunSizes) -> int:
    """Bytes of keys and values of one sequence on this machine."""
    if sizes.passes is None:
        return 0
    learner = getattr(torch, config.learner.dtype).itemsize
    return sizes.length * sizes.passes.cache * config.engine.memory(learner).cache // learner


def _limited(config: RunConfig, wanted: int) -> int:
    """`wanted` bytes of keys and values, or those that the engine is limited to."""
    memory = getattr(config.engine, "cache_memory", "auto")
    return min(wanted, memory << 20) if isinstance(memory, int) else wanted


def _running(config: RunConfig) -> int:
    limit = getattr(config.engine, "max_running", "auto")
    return limit if isinstance(limit, int) else responses_of_step(config)


def longest_response(config: RunConfig) -> int:
    """Tokens of the longest response, all turns of an episode together."""
    turns = min(config.environment.max_turns, getattr(config.algorithm, "max_turns", MOST_TURNS))
    return config.sampling.max_new_tokens * turns


def responses_of_step(config: RunConfig) -> int:
    """Responses of one rollout."""
    algorithm = config.algorithm
    count = getattr(algorithm, "prompts", 1) * getattr(algorithm, "group_size", 1)
    return max(1, count * getattr(algorithm, "mini_batches", 1))
