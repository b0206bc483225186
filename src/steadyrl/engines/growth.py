"""Tensors that grow."""

from torch import Tensor


def expand(tensor: Tensor, *shape: int) -> Tensor:
    """`tensor` expanded to at least this shape with zeros. Never smaller.

    Returns the tensor itself if it is large enough.
    """
    size = [max(old, new) for old, new in zip(tensor.shape, shape, strict=True)]
    if size == list(tensor.shape):
        return tensor
    wide = tensor.new_zeros(size)
    wide[tuple(slice(length) for length in tensor.shape)] = tensor
    return wide
