"""Copying of weights between models of the same architecture."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.loading import no_progress_bars
from steadyrl.policies.rounding import Rounding, round_into


def saved_weights(folder: Path, head_dtype: HeadDtype) -> dict[str, Tensor]:
    """Loads the weights that `save_pretrained` wrote to `folder`, under the model's names.

    Args:
        head_dtype: Dtype of the output head of the saved model. Each weight keeps the dtype in
            which it was saved.
    """
    # "auto" would round a float32 head to the model's dtype.
    dtype = torch.float32 if head_dtype == "float32" else "auto"
    with no_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    weights: dict[str, Tensor] = model.state_dict()
    return weights


@torch.no_grad()
def copy_weights(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    *,
    rounding: Rounding = "nearest",
    seed: int = 0,
) -> None:
    """Copies `weights` into a model's `own` weights, after checking all names and shapes.

    Args:
        rounding: Rounding of float32 weights to bfloat16.
        seed: Seed of the thresholds of stochastic rounding.

    Raises:
        ValueError: names or shapes differ from the model's.
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

    Norms and biases are unchanged. The noise depends on `seed` and the order of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() >= 2:
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.copy_(weight.float() * (1 + scale * noise))
