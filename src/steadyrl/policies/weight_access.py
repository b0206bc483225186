"""How a policy reaches the weights of its model, which other processes may hold shards of."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Results = tuple[Tensor | None, ...]


class WeightAccess(Protocol):
    """Makes the weights of a model available to the forward passes over some rows."""

    @property
    def dtype(self) -> torch.dtype | None:
        """Dtype of the forward pass; None: that of the weights."""
        ...

    def run(self, work: Callable[[], Results]) -> Results:
        """The result of `work`, which calls parts of the model and reads their weights."""
        ...

    def passes(self, count: int) -> int:
        """Number of forward passes that each process makes, if this one needs `count` of them."""
        ...


class WholeWeights:
    """Access to a model that this process holds whole."""

    dtype: torch.dtype | None = None

    def run(self, work: Callable[[], Results]) -> Results:
        """The result of `work`."""
        return work()

    def passes(self, count: int) -> int:
        """`count`: no other process is involved."""
        return count
