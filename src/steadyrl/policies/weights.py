"""Weights of one model for another of the same architecture."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from steadyrl.policies.rounding import Rounding, round_into


@torch.no_grad()
def copy_weights(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    *,
    rounding: Rounding = "nearest",
    seed: int = 0,
) -> None:
    """Copies `weights` into a model's `own`, all or none.

    Args:
        rounding: How float32 weights become bfloat16 ones.
        seed: Determines the thresholds of stochastic rounding.

    Raises:
        ValueError: names or shapes are not those of the model.
    """
    if own.keys() != weights.keys():
        differing = sorted(own.keys() ^ weights.keys())
        raise ValueError(f"Weight names differ from the model's: {', '.join(differing[:5])}.")
    for name, target in own.items():
        if target.shape != weights[name].shape:
            raise ValueError(
                f"Weight {name} has shape {tuple(weights[name].shape)}, the model expects "
                f"{tuple(target.shape)}."
            )
    for name, target in own.items():
        round_into(target, weights[name], rounding, name=name, seed=seed)


@torch.no_grad()
def perturb_weights(model: nn.Module, scale: float, seed: int) -> None:
    """Multiplies every entry of the matrices of `model` by `1 + scale * g`, `g` standard Gaussian.

    Norms and biases stay. The noise is a function of `seed` and the weights' order.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() >= 2:
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.copy_(weight.float() * (1 + scale * noise))
