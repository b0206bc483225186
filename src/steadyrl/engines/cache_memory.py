"""Memory planning for the key-value cache."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from steadyrl.base.errors import UserError
from steadyrl.base.memory import available_memory
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.page_table import PAGE, pages_for
from steadyrl.engines.protocol import Request

SHARE = 0.5
"""Share of the free memory used for keys and values. Weights, moments and activations need the
rest."""


def half_of_free_memory(device: torch.device) -> int:
    """Half of the free memory of `device` in bytes."""
    return int(SHARE * available_memory(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Size of keys and values in bytes per position.

    Example:
        CacheSize(full=2048, sliding=1024, window=128).block_bytes(300) == 300 * 2048 + 128 * 1024
    """

    full: int
    """Bytes per position in all full-attention layers."""

    sliding: int = 0
    """Bytes per position in all sliding-window layers."""

    window: int = 0
    """Number of positions that sliding-window layers keep."""

    @property
    def page(self) -> int:
        """Bytes of one page in all full-attention layers."""
        return PAGE * self.full

    def block_bytes(self, positions: int) -> int:
        """Bytes of one sequence stored as a block of this many positions."""
        return positions * self.full + self.ring_bytes(positions)

    def ring_bytes(self, positions: int) -> int:
        """Bytes of one sequence in the sliding-window layers."""
        return min(positions, self.window) * self.sliding

    def paged_bytes(self, positions: int) -> int:
        """Bytes of one sequence stored in pages."""
        return pages_for(positions) * self.page + self.ring_bytes(positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """Number of concurrent sequences, and layout of their keys and values."""

    slots: int

    pages: int | None = None
    """Number of pages for full-attention layers; None: one block per sequence."""


def plan_cache(
    size: CacheSize, memory: int, *, answers: int, capacity: int, max_running: int | None
) -> CachePlan:
    """Plan for `answers` sequences of at most `capacity` positions in `memory` bytes.

    Args:
        max_running: Maximum number of concurrent sequences; None: as many as fit at full length.

    Raises:
        UserError: not even one sequence fits.
    """
    one = size.paged_bytes(capacity)
    if one > memory:
        raise UserError(
            f"Keys and values of one sequence of {capacity} tokens need {-(-one >> 20)} MiB, but "
            f"engine.cache_memory is {memory >> 20} MiB. Raise it, or lower max_new_tokens."
        )
    fitting = max(1, memory // max(1, size.block_bytes(capacity)))
    slots = min(answers, fitting if max_running is None else max_running)
    if slots <= fitting or not size.full:
        return CachePlan(slots=min(slots, fitting))
    beside = memory - pages_for(capacity) * size.page  # one sequence can always end
    rings = size.ring_bytes(capacity)
    slots = min(slots, beside // rings) if rings else slots
    return CachePlan(slots=slots, pages=(memory - slots * rings) // size.page)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMemory:
    """Memory for the keys and values of one model."""

    size: CacheSize
    limit: int
    """Bytes available."""

    max_running: int | None
    """Maximum number of concurrent sequences; None: as many as fit at full length."""

    def check(self, request: Request) -> None:
        """Checks that one completion of `request` fits.

        Raises:
            UserError: it does not.
        """
        self._plan(1, max_request_positions(request))

    def plan_more(self, *, answers: int, rows: int, capacity: int) -> CachePlan:
        """Plan for `answers` sequences, with space for `rows` of them already allocated.

        Capacity at least doubles when it grows, so requests that arrive one by one rarely move
        existing data.
        """
        plan = self._plan(max(answers, rows), capacity)
        if answers <= rows or rows == 0:
            return plan
        ample = self._plan(max(answers, 2 * rows), capacity)
        return plan if plan.pages is None and ample.pages is not None else ample

    def _plan(self, answers: int, capacity: int) -> CachePlan:
        return plan_cache(
            self.size, self.limit, answers=answers, capacity=capacity, max_running=self.max_running
        )


def max_request_positions(request: Request) -> int:
    """Positions of the prompt and a completion of maximum length."""
    return len(request.prompt_ids) + request.sampling.max_new_tokens


@torch.no_grad()
def cache_size(model: EngineModel, window_of: Callable[[int], int | None]) -> CacheSize:
    """Cache size of `model` per position, measured with one token."""
    cache = DynamicCache()
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    model.model(input_ids=token, past_key_values=cache, use_cache=True)
    full = sliding = window = 0
    for layer, filled in enumerate(cache.layers):
        size = sum(t.numel() * t.element_size() for t in (filled.keys, filled.values))
        kept = window_of(layer)
        if kept is None:
            full += size
        else:
            sliding, window = sliding + size, kept
    return CacheSize(full=full, sliding=sliding, window=window)
