"""Weights of one model for another of the same architecture."""

from collections.abc import Mapping

import torch
from torch import Tensor

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
