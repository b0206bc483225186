"""Weights of a model under the names that it has without a LoRA adapter.

peft replaces each adapted layer by one that holds the layer and the adapter's weights:

    with the adapter                                     without it
    model.layers.0.mlp.up_proj.base_layer.weight         model.layers.0.mlp.up_proj.weight
    model.layers.0.mlp.up_proj.lora_A.default.weight
    model.layers.0.mlp.up_proj.lora_B.default.weight

For a model without an adapter, names and weights are those of its `state_dict()`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

ADAPTER = "default"
"""peft's name of the adapter that is trained."""


class MergedWeights(Mapping[str, Tensor]):
    """The weights with the adapter added to them. Each is computed when it is read.

    A merged weight has the precision of the adapter: float32 over a bfloat16 base.

    Args:
        adapter: Name of the adapter within the model.
    """

    def __init__(self, model: nn.Module, adapter: str = ADAPTER) -> None:
        self._weights = base_weights(model)
        self._adapter = adapter
        self._layers = merged_layers(model, adapter)

    @torch.no_grad()
    def __getitem__(self, name: str) -> Tensor:
        weight, layer = self._weights[name], self._layers.get(name)
        if layer is None:
            return weight
        return weight + layer.get_delta_weight(self._adapter)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def base_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights without the adapter. They share memory with the model."""
    state = model.state_dict()
    layers = [path for path, _ in adapted_layers(model)]
    if not layers:
        return state
    own = tuple(f"{path}.lora_" for path in layers)
    return {plain_name(name): weight for name, weight in state.items() if not name.startswith(own)}


def merged_layers(model: nn.Module, adapter: str = ADAPTER) -> dict[str, Any]:
    """Peft's layers in `model` that have `adapter`, by the name of the weight they add to."""
    return {
        plain_name(f"{path}.{adapted_parameter(layer)}"): layer
        for path, layer in adapted_layers(model)
        if adapter in layer.lora_A
    }


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Peft's layers in `model`, by path. Experts have one for each of their parameters."""
    for path, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            yield path, module


def adapted_parameter(layer: Any) -> str:
    """Name of the parameter that a layer of peft's adds to."""
    return getattr(layer, "parameter_name", "weight")


def plain_name(name: str) -> str:
    """The name that a weight has without an adapter."""
    return name.replace(".base_layer", "")
