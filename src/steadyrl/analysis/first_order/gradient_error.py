"""Error of a gradient g against a reference g*, from inner products alone.

Vector 0 of `E` is g*, and vector i is the difference g_i - g* for the gradient number i: between
two gradients that are almost equal, the difference keeps the digits that its parts would lose.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and an interval around it, which is of no width where the number is exact."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrderError:
    """A gradient g against the reference g* = grad J_seq."""

    cosine: Estimate
    """g . g* / (|g| |g*|)."""

    norm_ratio: Estimate
    """|g| / |g*|."""

    relative_error: Estimate
    """|g - g*| / |g*|."""


def exact_error(products: Float[Tensor, "E E"], i: int, name: str) -> FirstOrderError:
    """The error of gradient `i`, from inner products without noise.

    Raises:
        UserError: a gradient is 0, so that it has no direction.
    """
    return _error({kind: (x, x, x) for kind, x in _squares(products, i, name).items()})


def jackknife_error(
    products: Float[Tensor, "K E K E"], i: int, name: str, *, confidence: float
) -> FirstOrderError:
    """The error of gradient `i`, from inner products within and between `K` blocks of a sample.

    Of the jackknife that leaves out one block at a time, by the normal distribution.

    Raises:
        UserError: a gradient cannot be told from 0.
    """
    blocks = len(products)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    center = _squares(_between_blocks(products), i, name)
    left_out: list[dict[str, float]] = []
    for block in range(blocks):
        kept = torch.arange(blocks) != block
        left_out.append(_squares(_between_blocks(products[kept][:, :, kept]), i, name))
    intervals = {}
    for kind, value in center.items():
        values = [squares[kind] for squares in left_out]
        mean = math.fsum(values) / blocks
        variance = math.fsum((v - mean) ** 2 for v in values) * (blocks - 1) / blocks
        width = quantile * math.sqrt(variance)
        intervals[kind] = (value, value - width, value + width)
    return _error(intervals)


def _squares(products: Float[Tensor, "E E"], i: int, name: str) -> dict[str, float]:
    """The cosine, and the squares of the other two, from inner products."""
    reference, difference = products[0, 0].item(), products[i, i].item()
    both = reference + products[0, i].item()
    own = difference + 2 * both - reference
    if min(reference, own) <= 0:
        what = name if own <= 0 else "J_seq"
        raise UserError(
            f"The gradient of {what!r} cannot be told from 0, so that it has no direction. Sample "
            "more responses, or check that rewards differ and bounds do not stop every token."
        )
    return {
        "cosine": both / math.sqrt(own * reference),
        "norm_ratio": own / reference,
        "relative_error": difference / reference,
    }


def _between_blocks(products: Float[Tensor, "K E K E"]) -> Float[Tensor, "E E"]:
    """The mean over pairs of different blocks."""
    blocks = len(products)
    within = products.diagonal(dim1=0, dim2=2).sum(dim=-1)
    return (products.sum(dim=(0, 2)) - within) / (blocks * (blocks - 1))


def _error(found: Mapping[str, tuple[float, float, float]]) -> FirstOrderError:
    """The numbers of `_squares`, or ends of their intervals, as they are reported."""

    def root(square: float) -> float:
        return math.sqrt(max(square, 0.0))

    def cosine(value: float) -> float:
        return min(max(value, -1.0), 1.0)

    def estimate(kind: str, reported: Callable[[float], float]) -> Estimate:
        value, low, high = (reported(number) for number in found[kind])
        return Estimate(value=value, low=low, high=high)

    return FirstOrderError(
        cosine=estimate("cosine", cosine),
        norm_ratio=estimate("norm_ratio", root),
        relative_error=estimate("relative_error", root),
    )
