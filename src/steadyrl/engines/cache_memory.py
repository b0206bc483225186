"""Memory for keys and values: how much there is, and how much a sequence needs."""

from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from transformers import DynamicCache

from steadyrl.base.errors import UserError
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.page_table import PAGE, pages_for
from steadyrl.engines.protocol import Request

SHARE = 0.5
"""Share of the free memory for keys and values. Weights, moments and activations need the rest."""


def half_of_free_memory(device: torch.device) -> int:
    """Bytes, half of those that are free on `device`."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    return int(SHARE * free)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Bytes of keys and values per position.

    Example:
        CacheSize(full=2048, sliding=1024, window=128).block_bytes(300) == 300 * 2048 + 128 * 1024
    """

    full: int
    """In all layers of full attention."""

    sliding: int = 0
    """In all layers of sliding attention."""

    window: int = 0
    """The positions that these keep."""

    @property
    def page(self) -> int:
        """Bytes of one page in all layers of full attention."""
        return PAGE * self.full

    def block_bytes(self, positions: int) -> int:
        """Bytes of one sequence whose keys and values are a block of so many positions."""
        return positions * self.full + self.ring_bytes(positions)

    def ring_bytes(self, positions: int) -> int:
        """Bytes of one sequence's layers of sliding attention."""
        return min(positions, self.window) * self.sliding

    def paged_bytes(self, positions: int) -> int:
        """Bytes of one sequence whose keys and values are in pages."""
        return pages_for(positions) * self.page + self.ring_bytes(positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """How many sequences run at once, and in which form their keys and values are kept."""

    slots: int

    pages: int | None = None
    """Pages for layers of full attention; None: a block, for which there is room."""


def plan_cache(
    size: CacheSize, memory: int, *, answers: int, capacity: int, max_running: int | None
) -> CachePlan:
    """The plan for `answers` sequences of at most `capacity` positions in `memory` bytes.

    Args:
        max_running: Sequences that may run at once; None: as many as fit at full length.

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
    """Memory for keys and values of one model."""

    size: CacheSize
    limit: int
    """Bytes."""

    max_running: int | None
    """Sequences that may run at once; None: as many as fit at their full length."""

    def check(self, request: Request) -> None:
        """Returns if there is room for one answer to `request`.

        Raises:
            UserError: there is not.
        """
        self._plan(1, max_request_positions(request))

    def plan_more(self, *, answers: int, rows: int, capacity: int) -> CachePlan:
        """The plan for `answers` sequences, where there is room for `rows` of them already.

        It is a plan for twice as many as before at least, so that requests which come one by one
        move what is there but rarely.
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
    """Positions that the prompt and a whole answer take."""
    return len(request.prompt_ids) + request.sampling.max_new_tokens


@torch.no_grad()
def cache_size(model: EngineModel, window_of: Callable[[int], int | None]) -> CacheSize:
    """What `model` keeps of one token, measured on one."""
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
