"""Numerics of a rollout engine, chosen independently of the trainer.

`fp8` and `int8` round both operands of every matrix product of the trunk: weights once per weight
sync, activations at every call with one scale per token. `int4` only rounds the weights. The
products themselves are computed in the model's dtype: the scaled FP8 matrix product is the product
of the dequantized operands.

As in FP8 inference servers, the output head, the routers, the embeddings and the norms are not
rounded.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.compat import changes, wrap_gate

E4M3_MAX = 448.0
INT8_MAX = 127
INT4_MAX = 7
BLOCK = 128
ROUTER_NAMES = frozenset({"gate", "router", "shared_expert_gate"})

Rounding = Callable[[Tensor, int], Tensor]


class Numerics(StrEnum):
    """Precision of a rollout engine."""

    FLOAT32 = "float32"

    BFLOAT16 = "bfloat16"

    FP8 = "fp8"
    """e4m3 rounding of weights and activations, on top of the trainer's dtype."""

    INT8 = "int8"
    """Symmetric 8-bit rounding of weights and activations, on top of the trainer's dtype."""

    INT4 = "int4"
    """Symmetric 4-bit rounding of weights, on top of the trainer's dtype; activations keep it."""


class WeightScaling(StrEnum):
    """Granularity of weight scales."""

    CHANNEL = "channel"
    """One scale per output channel."""

    BLOCK = "block"
    """One scale per 128 x 128 tile."""


def round_to_fp8(values: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """`values` rounded to e4m3 with one scale along `dim`, in the original dtype.

    The scale maps the largest magnitude to 448, the largest finite e4m3 value. The clamp is needed
    because casts saturate on some devices and give NaN on others.
    """
    scale = values.abs().amax(dim=dim, keepdim=True).float().clamp(min=1e-12) / E4M3_MAX
    scaled = (values / scale).clamp_(-E4M3_MAX, E4M3_MAX)
    return _float32_of_e4m3(scaled.to(torch.float8_e4m3fn)).mul_(scale).to(values.dtype)


def _float32_of_e4m3(values: Tensor) -> Tensor:
    """`values.float()` for finite values, but many times faster on a CPU.

    Apart from the sign, an e4m3 number has the bits of a float16 number shifted right by seven, and
    an exponent bias that is smaller by 8. This also holds for subnormal numbers.
    """
    sign_and_magnitude = (
        values.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(~0x4000)
    )
    return sign_and_magnitude.view(torch.float16).float().mul_(2.0**8)


def round_to_int8(values: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """`values` rounded to 255 symmetric levels with one scale along `dim`, in the same dtype."""
    return _round_to_integers(values, dim, INT8_MAX)


def round_to_int4(values: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """`values` rounded to 15 symmetric levels with one scale along `dim`, in the same dtype."""
    return _round_to_integers(values, dim, INT4_MAX)


def _round_to_integers(values: Tensor, dim: int, largest: int) -> Tensor:
    scale = values.abs().amax(dim=dim, keepdim=True).float().clamp(min=1e-12) / largest
    return ((values / scale).round().clamp(-largest, largest) * scale).to(values.dtype)


def identity(values: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Returns `values` unchanged."""
    return values


WEIGHT_ROUNDINGS: dict[Numerics, Rounding] = {
    Numerics.FP8: round_to_fp8,
    Numerics.INT8: round_to_int8,
    Numerics.INT4: round_to_int4,
}
ACTIVATION_ROUNDINGS: dict[Numerics, Rounding] = {
    Numerics.FP8: round_to_fp8,
    Numerics.INT8: round_to_int8,
    Numerics.INT4: identity,
}


def round_in_blocks(
    weight: Float[Tensor, "... O I"], rounding: Rounding
) -> Float[Tensor, "... O I"]:
    """`weight` rounded with one scale per 128 x 128 tile; tiles at the edges may be smaller."""
    rows, columns = weight.shape[-2:]
    pad = (0, -columns % BLOCK, 0, -rows % BLOCK)
    padded = nn.functional.pad(weight, pad)
    grid = padded.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK)).transpose(-3, -2)
    rounded = rounding(grid.flatten(-2), -1).view_as(grid).transpose(-3, -2)
    return rounded.reshape(padded.shape)[..., :rows, :columns]


class _Rounded(NamedTuple):
    """A tensor, its version counter at the time of rounding, and the rounded tensor."""

    values: Tensor
    version: int
    rounded: Tensor


def _trunk(model: PreTrainedModel) -> nn.Module:
    """The text decoder without output head, and without towers for images or audio."""
    is_text_model = model.config.get_text_config() is model.config
    return model.base_model if is_text_model else cast(nn.Module, model.get_decoder())


class LowPrecision:
    """Rounding of the weights and activations of one model.

    Args:
        model: Model to modify in place: hooks round the inputs of its modules.
        numerics: FP8, INT8 or INT4.
        weight_scaling: Granularity of weight scales.

    Raises:
        UserError: the inner activation of the model's experts cannot be accessed, or the model has
            matrices outside of linear layers.
    """

    def __init__(
        self, model: PreTrainedModel, numerics: Numerics, weight_scaling: WeightScaling
    ) -> None:
        self._round_weight = WEIGHT_ROUNDINGS[numerics]
        self._round = ACTIVATION_ROUNDINGS[numerics]
        self._weight_scaling = weight_scaling
        self._weights: list[tuple[Tensor, int]] = []
        self._last: _Rounded | None = None
        for name, module in _trunk(model).named_modules():
            if ROUTER_NAMES.intersection(name.split(".")) or isinstance(module, nn.Embedding):
                continue
            if isinstance(module, nn.Linear):
                self._lower_linear(module)
            elif isinstance(getattr(module, "gate_up_proj", None), nn.Parameter):
                self._lower_experts(module, model)
            elif any(weight.dim() > 1 for weight in module.parameters(recurse=False)):
                raise UserError(
                    f"{type(model).__name__} has weights in {name!r}, a {type(module).__name__}, "
                    "which cannot be rounded. Use engine numerics float32 or bfloat16."
                )

    def round_weights(self) -> None:
        """Rounds the weights in place. Call this exactly once after each weight sync."""
        with torch.no_grad():
            for weight, input_dim in self._weights:
                weight.copy_(self._rounded(weight, input_dim))

    def _rounded(self, weight: Tensor, input_dim: int) -> Tensor:
        if self._weight_scaling is WeightScaling.BLOCK:
            return round_in_blocks(weight, self._round_weight)
        return self._round_weight(weight, input_dim)

    def _round_input(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._rounded_once(args[0]), *args[1:])

    def _rounded_once(self, values: Tensor) -> Tensor:
        """Rounds `values`, or reuses the last result: query, key and value share an input."""
        last = self._last
        if last is None or last.values is not values or last.version != changes(values):
            self._last = last = _Rounded(values, changes(values), self._round(values, -1))
        return last.rounded

    def _lower_linear(self, linear: nn.Linear) -> None:
        self._weights.append((linear.weight, -1))
        linear.register_forward_pre_hook(self._round_input)

    def _lower_experts(self, experts: nn.Module, model: PreTrainedModel) -> None:
        if not getattr(experts, "has_gate", False):
            raise UserError(
                f"{type(model).__name__} has experts without the gated interface of Transformers, "
                "so their inner activation cannot be rounded. Use numerics float32 or bfloat16."
            )
        model.set_experts_implementation("grouped_mm")  # it calls the gate that is wrapped
        input_dim = -2 if experts.is_transposed else -1
        self._weights.append((cast(Tensor, experts.gate_up_proj), input_dim))
        self._weights.append((cast(Tensor, experts.down_proj), input_dim))
        experts.register_forward_pre_hook(self._round_input)
        wrap_gate(experts, lambda inner: self._round(inner, -1))
