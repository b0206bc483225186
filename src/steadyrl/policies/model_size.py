"""Sizes of a model, from its configuration alone: no weights are read and no memory is taken.

parameters        the model on PyTorch's `meta` device
activations       a forward pass over tensors without data; what autograd saves is summed
keys and values   a forward pass over one token
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from steadyrl.policies.compat import without_data
from steadyrl.policies.loading import empty_model, model_config, model_with
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.lora_targets import LoraTargets
from steadyrl.policies.model_settings import ModelSettings
from steadyrl.policies.positions import max_positions
from steadyrl.policies.routers import is_moe
from steadyrl.policies.small_copy import FAILURES

ROUGH_VALUES = 60
"""Values per layer, position and unit of width that a rough estimate of activations assumes: twice
what a Llama saves whose MLP is four times as wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Counts of a model's values."""

    parameters: int
    """Shared ones count once."""

    layers: int
    width: int
    vocabulary: int
    experts_per_token: int
    """0 for dense models."""

    adapter: int = 0
    """Values of the LoRA adapter; 0 without one."""

    positions: int | None = None
    """Maximum number of tokens in a row; None: no limit is known."""

    @classmethod
    def of(
        cls,
        settings: ModelSettings,
        tokenizer: PreTrainedTokenizerBase,
        lora: LoraSettings | None = None,
    ) -> "ModelSize":
        """The size of the model that `settings` describe.

        Args:
            lora: The adapter that is trained in it.

        Raises:
            UserError: the checkpoint has no configuration that can be read, or the model cannot
                have the adapter.
        """
        with torch.device("meta"):
            model = empty_model(settings, tokenizer=tokenizer, dtype=torch.float32)
        return cls.of_model(model, lora)

    @classmethod
    def of_model(cls, model: PreTrainedModel, lora: LoraSettings | None = None) -> "ModelSize":
        """The size of `model`, which may be on the `meta` device.

        Raises:
            UserError: it cannot have the adapter.
        """
        config = model.config.get_text_config()
        routed, adapter = is_moe(model), 0
        if lora is not None:
            targets = LoraTargets.of(model, lora.targets, experts=lora.experts)
            adapter = targets.values(model, lora.rank)
        return cls(
            parameters=sum(weight.numel() for weight in model.parameters()),
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            vocabulary=model.get_input_embeddings().weight.shape[0],
            experts_per_token=getattr(config, "num_experts_per_tok", 1) if routed else 0,
            adapter=adapter,
            positions=max_positions(model),
        )

    def rough_activations(self, itemsize: int) -> int:
        """Bytes per position, generously."""
        return ROUGH_VALUES * self.layers * self.width * itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class PassMemory:
    """Bytes per position that forward passes keep."""

    activations: float
    """Saved for the backward pass, without those of the output head."""

    cache: int
    """Keys and values, in the same dtype."""


def pass_memory(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    routed: bool,
    dtype: torch.dtype,
    length: int,
) -> PassMemory | None:
    """Memory of passes over rows of `length` tokens; None for families that need data to run.

    Args:
        routed: Whether the model is a Mixture of Experts.

    Raises:
        UserError: the checkpoint has no configuration that can be read.
    """
    config = model_config(settings, tokenizer)
    return pass_memory_with(config, routed=routed, dtype=dtype, length=length)


def pass_memory_with(
    config: PreTrainedConfig, *, routed: bool, dtype: torch.dtype, length: int
) -> PassMemory | None:
    """The same for a model of this configuration."""
    with without_data():
        # Products of grouped experts only exist in bfloat16 there.
        model = model_with(config, torch.bfloat16 if routed else dtype)
        try:
            saved = _saved_bytes(model, length, dtype)
            cache = _cache_values(model) * dtype.itemsize
        except (*FAILURES, NotImplementedError):
            return None
    return PassMemory(activations=saved / length, cache=cache)


def multiplied_weights(model: PreTrainedModel) -> tuple[int, int, int]:
    """Weights that multiply tokens: of the trunk without experts, of all experts, of the head."""
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    alone = 0 if head is embedding else embedding.numel()  # it multiplies nothing
    return model.num_parameters() - experts - alone - head.numel(), experts, head.numel()


def _saved_bytes(model: PreTrainedModel, length: int, dtype: torch.dtype) -> int:
    """Bytes that autograd saves in a pass over one row in `dtype`, weights excluded."""
    weights = [weight.untyped_storage() for weight in model.parameters()]
    known = set(map(id, weights))
    found: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if tensor.dtype == torch.bfloat16:
            size = size // tensor.dtype.itemsize * dtype.itemsize
        if id(storage) not in known:
            found[id(storage)] = storage, size
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.base_model(
            input_ids=torch.zeros(1, length, dtype=torch.long),
            position_ids=torch.arange(length)[None],
            use_cache=False,
        )
    return sum(size for _, size in found.values())


def _cache_values(model: PreTrainedModel) -> int:
    """Numbers in the keys and values of one token in all layers."""
    cache = DynamicCache()
    with torch.no_grad():
        model.base_model(
            input_ids=torch.zeros(1, 1, dtype=torch.long), past_key_values=cache, use_cache=True
        )
    return sum(t.numel() for layer in cache.layers for t in (layer.keys, layer.values))
