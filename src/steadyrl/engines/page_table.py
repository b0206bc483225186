"""Page table of the key-value cache, as in PagedAttention (arXiv:2309.06180)."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from steadyrl.engines.growth import expand

PAGE = 32
"""Positions per page."""


class PageTable:
    """Pages that slots take as their sequences grow and return when they end.

    Args:
        slots: Number of rows of the table.
        capacity: Maximum positions of a sequence.
        max_pages: Maximum number of pages in use. If it is lowered, pages must be returned.
    """

    def __init__(self, slots: int, capacity: int, max_pages: int, device: torch.device) -> None:
        self._table = torch.zeros(0, 0, dtype=torch.long, device=device)
        self._owned: list[list[int]] = []
        self._returned: list[int] = []
        self._taken = 0
        self.max_pages = max_pages
        self.size = 0
        """Number of pages that the layers must have space for."""
        self.reserve(slots, capacity)

    @property
    def free(self) -> int:
        """Number of pages that may still be taken; negative if pages must be returned."""
        return self.max_pages - self._taken + len(self._returned)

    def reserve(self, slots: int, capacity: int) -> None:
        """Makes room for this many slots and positions."""
        self._table = expand(self._table, slots, pages_for(capacity))
        self._owned += [[] for _ in range(len(self._table) - len(self._owned))]

    def shortage(self, lengths: Sequence[int]) -> int:
        """Number of missing pages if slots `0, 1, ...` have these lengths."""
        needed = (pages_for(n) - len(self._owned[slot]) for slot, n in enumerate(lengths))
        return max(0, sum(max(0, pages) for pages in needed) - self.free)

    def make_room(self, slots: Iterable[int], lengths: Iterable[int]) -> None:
        """Gives each of `slots` enough pages for its length."""
        for slot, length in zip(slots, lengths, strict=True):
            owned = self._owned[slot]
            while len(owned) < pages_for(length):
                page = self._take()
                self._table[slot, len(owned)] = page
                owned.append(page)

    def release(self, finished: Sequence[int], movers: list[int], holes: list[int]) -> None:
        """Returns the pages of the slots `finished`, and moves slots `movers` to slots `holes`."""
        for slot in finished:
            self._returned += self._owned[slot]
            self._owned[slot] = []
        for mover, hole in zip(movers, holes, strict=True):
            self._owned[hole], self._owned[mover] = self._owned[mover], []
        if holes:
            self._table[holes] = self._table[movers]

    def slot_mapping(
        self, slots: Int[Tensor, " N"], positions: Int[Tensor, " N"]
    ) -> Int[Tensor, " N"]:
        """Indices of these positions of these slots in the memory of all pages."""
        return self._table[slots, positions // PAGE] * PAGE + positions % PAGE

    def pages_of(self, running: int, visible: int) -> Int[Tensor, "N P"]:
        """Pages of the first `visible` positions of each running slot, arbitrary beyond it."""
        return self._table[:running, : pages_for(visible)]

    def _take(self) -> int:
        if self._returned:
            return self._returned.pop()
        assert self._taken < self.max_pages
        self._taken += 1
        if self._taken > self.size:
            self.size = min(self.max_pages, max(2 * self.size, self._taken))
        return self._taken - 1


def pages_for(positions: int) -> int:
    """Number of pages for `positions` positions."""
    return -(-positions // PAGE)
