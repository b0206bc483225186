"""Sums over the rows of a group."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """`B` rows in `P` groups, which may differ in size and be interleaved.

    Example:
        Grouping.by(torch.tensor([7, 3, 7])).sizes  # tensor([2, 1, 2])
    """

    ids: Int[Tensor, " P"]
    """The id of each group, ascending."""

    group_of_row: Int[Tensor, " B"]
    """Index in `ids` of each row's group."""

    sizes: Int[Tensor, " B"]
    """Number of rows in each row's group."""

    @classmethod
    def by(cls, group_ids: Int[Tensor, " B"]) -> "Grouping":
        """Groups rows with equal `group_ids`."""
        ids, group_of_row, counts = torch.unique(group_ids, return_inverse=True, return_counts=True)
        return cls(ids=ids, group_of_row=group_of_row, sizes=counts[group_of_row])

    def total(self, values: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """For each row, the sum of `values` over its group."""
        totals = values.new_zeros(len(self.ids)).index_add(0, self.group_of_row, values)
        return totals[self.group_of_row]

    def smallest(self, values: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """For each row, the smallest of `values` in its group."""
        smallest = values.new_zeros(len(self.ids)).scatter_reduce(
            0, self.group_of_row, values, "amin", include_self=False
        )
        return smallest[self.group_of_row]
