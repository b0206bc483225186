"""Agreement of two computations up to rounding, whatever the processor adds up in which order."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Values = Tensor | float | Sequence[float] | Mapping[str, Tensor]

TERMS = 128
"""Numbers summed one after another into a value of a small model: four products of 32, say."""


def tolerance(scale: Values, terms: int = TERMS, dtype: torch.dtype | None = None) -> float:
    """Largest difference of two sums of the same numbers: `terms` epsilons of the scale.

    Args:
        scale: The compared values; their largest magnitude is the scale.
        terms: Numbers summed; each costs either sum half an epsilon at most.
        dtype: Type they were summed in. By default that of the tensors, and float32 for Python's
            numbers, which tests read from float32 results.
    """
    tensors = _tensors(scale)
    dtypes = {dtype} if dtype else {tensor.dtype for tensor in tensors.values()}
    largest = (tensor.detach().abs().max() for tensor in tensors.values() if tensor.numel())
    magnitude = max(map(float, largest), default=0.0)
    return terms * max(torch.finfo(dtype).eps for dtype in dtypes) * magnitude


def assert_close(
    found: Values, expected: Values, terms: int = TERMS, dtype: torch.dtype | None = None
) -> None:
    """Asserts equal names and shapes, and no difference above `tolerance`.

    The scale is the largest magnitude in all of `expected`: the small entries of a model's gradient
    are differences of large ones, and just as uncertain.
    """
    ours, theirs = _tensors(found), _tensors(expected)
    assert ours.keys() == theirs.keys()
    dtypes = [tensor.dtype for tensor in (*ours.values(), *theirs.values())]
    least_precise = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    limit = tolerance(expected, terms, dtype or least_precise)
    assert math.isfinite(limit), "what is expected is not finite"
    for name, one in ours.items():
        assert one.shape == theirs[name].shape, name
        difference = (one.detach().double() - theirs[name].detach().double()).abs()
        assert (difference <= limit).all(), (
            f"{name or 'values'} differ by {difference.max():.3g}, "
            f"{terms * difference.max() / limit:.1f} epsilons of the scale; {terms} are allowed"
        )


def _tensors(values: Values) -> dict[str, Tensor]:
    """`values` as named tensors."""
    if isinstance(values, Mapping):
        return dict(values)
    if isinstance(values, Tensor):
        return {"": values}
    return {"": torch.tensor(values, dtype=torch.float32)}
