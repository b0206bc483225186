"""Tensors that grow."""

from torch import Tensor


def expand(tensor: Tensor, *shape: int) -> Tensor:
    """`tensor` with at least this shape, zeros where it had nothing. Never smaller.

    Returns the tensor itself where it is large enough.
    """
    size = [max(old, new) for old, new in zip(tensor.shape, shape, strict=True)]
    if size == list(tensor.shape):
        return tensor
    wide = tensor.new_zeros(size)
    wide[tuple(slice(length) for length in tensor.shape)] = tensor
    return wide
