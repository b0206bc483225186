"""How much of a movement of precise weights arrives in weights of lower precision."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SAMPLE = 4096
"""Elements of each tensor on which a movement is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What arrived of a movement."""

    weights_changed: float
    """Share of the weights whose value changed."""

    update_reached: float
    """Movement of the weights along that of the precise ones, as a share of the latter: 1 where
    nothing is lost, in expectation where rounding is unbiased, and where nothing moved; 0 where the
    weights did not follow."""


@dataclass(frozen=True, slots=True)
class WeightSample:
    """Some elements of all weights of a model, and of the precise weights that they follow."""

    weights: Float[Tensor, " S"]
    precise: Float[Tensor, " S"]

    @classmethod
    @torch.no_grad()
    def of(cls, weights: Mapping[str, Tensor], precise: Mapping[str, Tensor]) -> "WeightSample":
        """Copies of at most `SAMPLE` elements of each of `weights`, the same ones at each call."""
        return cls(
            torch.cat([_some_of(weight) for weight in weights.values()]),
            torch.cat([_some_of(precise[name]) for name in weights]),
        )

    def reach(self, later: "WeightSample") -> Reach:
        """What arrived of the movement from this sample to the `later` one."""
        moved = (later.weights - self.weights).double()
        wanted = (later.precise - self.precise).double()
        whole = float(wanted.square().sum())
        return Reach(
            weights_changed=float((moved != 0).double().mean()),
            update_reached=float((moved * wanted).sum()) / whole if whole else 1.0,
        )


def _some_of(values: Tensor) -> Tensor:
    """Elements of `values` at equal distances.

    The distance is odd, so that it is not a multiple of a row's usual lengths.
    """
    flat = values.detach().flatten()
    return flat[:: len(flat) // SAMPLE | 1][:SAMPLE].to(torch.float32, copy=True)
