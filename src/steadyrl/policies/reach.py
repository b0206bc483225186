"""Share of an update of high-precision weights that reaches their low-precision copy."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SAMPLE = 4096
"""Number of elements sampled from each tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Share of an update that reached the low-precision weights."""

    weights_changed: float
    """Share of the weights whose value changed."""

    update_reached: float
    """Movement of the weights projected onto the movement of the precise weights, as a share of the
    latter. 1: nothing is lost (in expectation, for unbiased rounding), or nothing moved. 0: the
    weights did not follow."""


@dataclass(frozen=True, slots=True)
class WeightSample:
    """Sampled elements of the weights of a model and of their high-precision originals."""

    weights: Float[Tensor, " S"]
    precise: Float[Tensor, " S"]

    @classmethod
    @torch.no_grad()
    def of(cls, weights: Mapping[str, Tensor], precise: Mapping[str, Tensor]) -> "WeightSample":
        """Copies about `SAMPLE` elements of each weight, at the same indices in every call."""
        return cls(
            torch.cat([_some_of(weight) for weight in weights.values()]),
            torch.cat([_some_of(precise[name]) for name in weights]),
        )

    def reach(self, later: "WeightSample") -> Reach:
        """Share of the update from this sample to `later` that reached the weights."""
        return reach_of(self.sums(later))

    def sums(self, later: "WeightSample") -> Float[Tensor, "4"]:
        """Input of `reach_of` for this sample and `later`. Sums of several samples may be added."""
        moved = (later.weights - self.weights).double()
        movement = (later.precise - self.precise).double()
        return torch.stack(
            [
                (moved != 0).double().sum(),
                moved.new_tensor(moved.numel()),
                (moved * movement).sum(),
                movement.square().sum(),
            ]
        )


def reach_of(sums: Float[Tensor, "4"]) -> Reach:
    """Share of an update, from the sums of samples before and after it."""
    changed, count, reached, whole = sums.tolist()
    return Reach(
        weights_changed=changed / count,
        update_reached=reached / whole if whole else 1.0,
    )


def _some_of(values: Tensor) -> Tensor:
    """Elements of `values` at a constant stride, which is odd to avoid multiples of row lengths."""
    flat = values.detach().flatten()
    return flat[:: len(flat) // SAMPLE | 1][:SAMPLE].to(torch.float32, copy=True)
