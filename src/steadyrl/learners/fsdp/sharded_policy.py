"""A policy whose model is sharded over the ranks, and whose weights are gathered one at a time."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import distribute_tensor

from steadyrl.learners.adapted_model import AdaptedModel
from steadyrl.learners.fsdp.setup import RankSetup
from steadyrl.learners.fsdp.shards import ShardedWeights, shard_of, whole
from steadyrl.policies.merged_weights import ADAPTER, adapted_parameter, merged_layers, plain_name

WeightForm = Literal["trained", "merged"]
"""trained: what is trained, the whole model or an adapter. merged: the model, with the adapter
added to its weights."""


class ShardedPolicy:
    """A policy as `setup` describes it, of which this rank holds a shard."""

    def __init__(self, setup: RankSetup, mesh: DeviceMesh) -> None:
        policy = setup.policy()
        self.policy = policy
        self.trained = setup.trained(policy)
        self._dtype = setup.pass_dtype
        sharded = ShardedWeights(policy.model, mesh, setup.pass_dtype)
        policy.access = sharded
        self._weights = {
            plain_name(name): weight
            for name, weight in (
                *policy.model.named_parameters(remove_duplicate=False),
                *policy.model.named_buffers(remove_duplicate=False),
            )
        }
        self._layers = merged_layers(policy.model)
        self._units = {
            id(part): unit
            for unit in sharded.units()
            for part in cast(
                nn.Module, unit
            ).modules()  # an inner unit comes after the one it is in
        }

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Trained weights by name. Each holds this rank's shard."""
        return self.trained.parameters()

    def gather(self, name: str, form: WeightForm) -> Tensor:
        """A whole weight, in the dtype of passes. Every rank must call this."""
        if form == "trained" and isinstance(self.trained, AdaptedModel):
            return whole(self.parameters()[name])
        layer = self._layers.get(name)
        if layer is not None:
            return self._merged(layer)
        weight = self._weights[name].detach()
        rounds = self._dtype is not None and isinstance(self._weights[name], nn.Parameter)
        return whole(weight.to(self._dtype) if rounds else weight)

    @torch.no_grad()
    def randomize(self, share: float) -> None:
        """Draws every B of the adapter, as `lora.randomize` does. Every rank must call this."""
        generator = torch.Generator().manual_seed(0)
        for layer in self._layers.values():
            shard = layer.lora_B[ADAPTER].weight
            drawn = torch.randn(shard.shape, generator=generator).to(shard.device)
            unit: FSDPModule = self._units[id(layer)]
            unit.unshard()
            try:
                layer.lora_B[ADAPTER].weight.copy_(drawn)
                weight = getattr(layer.get_base_layer(), adapted_parameter(layer))
                drawn *= share * weight.float().norm()
                drawn /= layer.get_delta_weight(ADAPTER).float().norm()
            finally:
                unit.reshard()
            own = distribute_tensor(drawn, shard.device_mesh, shard.placements, src_data_rank=None)
            shard_of(shard).copy_(own.to_local())

    @torch.no_grad()
    def _merged(self, layer: Any) -> Tensor:
        """The weight of a layer with its adapter. The weights of the layers around it, too, are
        gathered for it.
        """
        unit: FSDPModule = self._units[id(layer)]
        unit.unshard()
        try:
            weight = getattr(layer.get_base_layer(), adapted_parameter(layer))
            merged: Tensor = weight + layer.get_delta_weight(ADAPTER)
            return merged
        finally:
            unit.reshard()
