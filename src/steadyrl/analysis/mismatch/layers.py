"""Layers in which two passes over the same tokens chose different experts, and their margins.

The margin of a choice is the lowest router logit among the chosen experts less the highest among
the others. Logits that each move by less than half of it cannot flip the choice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFlips:
    """The tokens for which one MoE layer chose another set of experts in the other pass."""

    share: float
    """Share of all tokens."""

    margins_flipped: tuple[float, ...] | None
    """Margins of the choices that flipped, at the quantiles 0.1, 0.5 and 0.9. None if none did."""

    margins_kept: tuple[float, ...] | None
    """Margins of the other choices. None without any, or if every expert is always chosen."""

    in_closest_tenth: float | None
    """Share of the flips among the tenth of tokens with the smallest margins: about 0.1 if margins
    do not matter, 1 if they decide alone. None without any flip."""


def layer_flips(
    flips: Bool[Tensor, "N L"], margins: Float[Tensor, "N L"]
) -> tuple[LayerFlips, ...]:
    """The flips of each MoE layer between two passes.

    Args:
        flips: Where the two chose different sets of experts.
        margins: Margins of the choices of one of the passes.
    """
    return tuple(
        _layer_flips(flipped, values)
        for flipped, values in zip(flips.unbind(dim=1), margins.unbind(dim=1), strict=True)
    )


def choice_margins(
    logits: Float[Tensor, "N E"], experts: Integer[Tensor, "N K"]
) -> Float[Tensor, " N"]:
    """Lowest logit of the chosen experts minus the highest of the others; infinite if all are.

    Negative where a family chooses by more than its logits: DeepSeek-V3 adds a bias, and chooses
    among some groups of experts only.
    """
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, experts.long(), True)
    last_chosen = logits.masked_fill(~chosen, torch.inf).amin(dim=-1)
    return last_chosen - logits.masked_fill(chosen, -torch.inf).amax(dim=-1)


@contextmanager
def watch_margins(routers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A recorder of the margin of every fed token in each of `routers`."""
    margins: list[Tensor] = [torch.empty(0)] * len(routers)

    def note(layer: int, _router: nn.Module, _inputs: Any, output: Any) -> None:
        logits, _weights, experts = output
        margins[layer] = choice_margins(logits.float(), experts)

    handles = [
        router.register_forward_hook(partial(note, layer)) for layer, router in enumerate(routers)
    ]
    try:
        yield margins
    finally:
        for handle in handles:
            handle.remove()


def _layer_flips(flipped: Bool[Tensor, " N"], margins: Float[Tensor, " N"]) -> LayerFlips:
    return LayerFlips(
        share=flipped.double().mean().item(),
        margins_flipped=_quantiles(margins[flipped]),
        margins_kept=_quantiles(margins[~flipped]),
        in_closest_tenth=_in_closest_tenth(flipped, margins),
    )


def _in_closest_tenth(flipped: Bool[Tensor, " N"], margins: Float[Tensor, " N"]) -> float | None:
    if not bool(flipped.any()) or not bool(margins.isfinite().any()):
        return None
    return float((margins[flipped].numpy() <= np.quantile(margins.numpy(), 0.1)).mean())


def _quantiles(margins: Float[Tensor, " N"]) -> tuple[float, ...] | None:
    finite = margins[margins.isfinite()]
    return tuple(np.quantile(finite.numpy(), QUANTILES).tolist()) if len(finite) else None
