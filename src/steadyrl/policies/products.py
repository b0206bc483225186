"""Linear layers in float32 on a CPU, by oneDNN where it is faster than MKL.

PyTorch multiplies float32 matrices on x86 by MKL, which uses AVX-512 on processors of Intel alone.
On others, oneDNN, which PyTorch brings for bfloat16, takes half of the time for large weights. Both
round each sum of products once, in different orders.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steadyrl.base.processor import processor_maker
from steadyrl.policies.compat import has_onednn_linear, onednn_linear

SMALLEST_WEIGHT = 1 << 16
"""Elements of a weight, below which the overhead of a call takes what the product saves."""


class FastLinear(nn.Linear):
    """A linear layer that computes by `linear`."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The output, in the type of the input."""
        return linear(inputs, self.weight, self.bias)


def speed_up(model: PreTrainedModel) -> None:
    """Lets the large linear layers of `model` compute by `linear`, in place."""
    if _is_onednn_faster():
        for module in model.modules():
            if type(module) is nn.Linear and module.weight.numel() >= SMALLEST_WEIGHT:
                module.__class__ = FastLinear


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`inputs @ weight.T + bias` as `nn.functional.linear`, with first derivatives."""
    if not _is_faster(inputs, weight):
        return nn.functional.linear(inputs, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
    return onednn_linear(inputs, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(
            inputs if ctx.needs_input_grad[1] else None,
            weight if ctx.needs_input_grad[0] else None,
        )
        return onednn_linear(inputs, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_inputs = None if weight is None else onednn_linear(gradient, weight.T, None)
        of_weight = None if inputs is None else onednn_linear(rows.T, inputs.flatten(0, -2).T, None)
        return of_inputs, of_weight, rows.sum(dim=0) if ctx.needs_input_grad[2] else None


def _is_faster(inputs: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() >= SMALLEST_WEIGHT
        and inputs.dtype == weight.dtype == torch.float32
        and inputs.device.type == weight.device.type == "cpu"
        and inputs.numel() > 0
        and _is_onednn_faster()
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _is_onednn_faster() -> bool:
    return (
        torch.backends.mkl.is_available()
        and has_onednn_linear()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and processor_maker() not in ("", "GenuineIntel")
    )
