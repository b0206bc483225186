"""Sharding of a policy's model by FSDP2, and access to its shards.

    root unit     embedding, final norm, output head: whatever is in no layer
    layer units   each decoder layer; its experts are sharded along the experts

FSDP2 gathers a unit's weights when its module is called. The scores of a policy call parts of the
model and read the head's weight, so all of that happens within one call of the root module.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from steadyrl.base.errors import UserError
from steadyrl.policies.weight_access import Results


class _Root(nn.Module):
    """Calls a function while the weights outside of the layers are gathered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Results]) -> Results:
        """The result of `work`."""
        return work()


class ShardedWeights:
    """Shards `model` in place, and gathers its weights for forward passes. See `WeightAccess`.

    Args:
        dtype: Dtype of the forward and backward pass, if it is not that of the weights. Gradients
            are reduced in float32.

    Raises:
        UserError: the model has no layers that can be sharded, or PyTorch is too old.
    """

    def __init__(
        self, model: PreTrainedModel, mesh: DeviceMesh, dtype: torch.dtype | None = None
    ) -> None:
        if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
            raise UserError(
                f"Learner 'fsdp' needs PyTorch 2.13 or later, this is {torch.__version__}. Install "
                "the version in constraints.txt, or use learner 'local'."
            )
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        if not layers:
            raise UserError(
                f"{type(model).__name__} has no layers that the learner can shard. Use learner "
                "'local'."
            )
        self.dtype = dtype
        self._device = torch.device(mesh.device_type)
        self._root = _Root(model)
        precision = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for part in (*reversed(layers), self._root):  # inner ones first
            # The root, too, is gathered anew for each pass: the weights may change in between.
            fully_shard(part, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
        for unit in self.units():
            unit.set_gradient_divide_factor(1.0)  # token weights count the tokens of all ranks
            unit.set_force_sum_reduction_for_comms(True)
            # Experts that are modules of their own may be used on some ranks only.
            unit.set_reduce_scatter_unused_params(True, recurse=False)

    def units(self) -> list[FSDPModule]:
        """The modules whose weights are gathered together."""
        return [part for part in self._root.modules() if isinstance(part, FSDPModule)]

    def run(self, work: Callable[[], Results]) -> Results:
        """The result of `work`, within a call of the root module."""
        return self._root(work)

    def passes(self, count: int) -> int:
        """The largest `count` of any rank."""
        most = torch.tensor(count, device=self._device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)


def whole(weight: Tensor) -> Tensor:
    """A weight that is gathered from all ranks, each of which must call this."""
    weight = weight.detach()
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def shard_of(weight: Tensor) -> Tensor:
    """The part of a weight that this rank holds."""
    weight = weight.detach()
    return weight.to_local() if isinstance(weight, DTensor) else weight
