"""Key-value cache of running sequences, one slot each, updated in place.

Each layer uses one of three layouts:

    Block   one column per position: full attention, while all slots fit into memory
    Ring    one column per position modulo the window: sliding-window attention
    Pages   pages of `PAGE` positions, taken as sequences grow: full attention beyond that memory
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache

from steadyrl.engines.growth import expand
from steadyrl.engines.page_table import PAGE, PageTable

KeysAndValues = tuple[Float[Tensor, "N H S K"], Float[Tensor, "N H S V"]]


@dataclass(slots=True)
class Step:
    """Positions that the current forward pass writes and sees."""

    rows: Int[Tensor, " N"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    positions: Int[Tensor, " N"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    visible: int = 0


@dataclass(frozen=True, slots=True)
class Prompts:
    """Row of a prefilled batch, slot and length of each new sequence."""

    source: Int[Tensor, " N"]
    slots: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]


@runtime_checkable
class LayerCache(Protocol):
    """Keys and values of one layer."""

    def admit(self, keys: Tensor, values: Tensor, prompts: Prompts) -> None:
        """Copies prefilled keys and values into slots."""

    def update(self, keys: Tensor, values: Tensor, step: Step) -> KeysAndValues:
        """Stores one key and value per running sequence; returns all visible ones."""

    def move(self, source: Int[Tensor, " M"], target: Int[Tensor, " M"]) -> None:
        """Copies slots `source` to slots `target`."""

    def reserve(self, slots: int, capacity: int) -> None:
        """Sets the number of slots and positions, from the next prompt on."""


class SlotCache(Cache):
    """A key-value cache whose rows are slots of sequences of different lengths.

    Running sequences occupy slots `0 .. running - 1`. Before each forward pass, `begin_step` sets
    the position at which each of them stores its next key and value.

    Args:
        capacity: Maximum positions of a sequence.
        window_of: Attention window of a layer; None: full attention.
        table: Page table for full-attention layers.
    """

    def __init__(
        self,
        slots: int,
        capacity: int,
        *,
        window_of: Callable[[int], int | None] = lambda layer: None,
        table: PageTable | None = None,
    ) -> None:
        super().__init__(layers=[])
        self._slots = slots
        self._capacity = capacity
        self._window_of = window_of
        self._layers: list[LayerCache] = []
        self._step = Step()
        self.table = table

    def reserve(self, slots: int, capacity: int) -> None:
        """Makes room for this many slots and positions. Never shrinks."""
        self._slots, self._capacity = max(self._slots, slots), max(self._capacity, capacity)
        if self.table is not None:
            self.table.reserve(slots, capacity)
        for layer in self._layers:
            layer.reserve(self._slots, self._capacity)

    def use_pages(self, table: PageTable, lengths: Int[Tensor, " N"]) -> None:
        """Moves the first `lengths[n]` positions of each slot `n` into pages."""
        self.table = table
        table.make_room(range(len(lengths)), lengths.tolist())
        rows = torch.arange(len(lengths), device=lengths.device)
        for number, layer in enumerate(self._layers):
            if isinstance(layer, Block):
                self._layers[number] = Pages(table)
                if layer.held is not None and len(rows):
                    prompts = Prompts(rows, rows, lengths)
                    self._layers[number].admit(*layer.held, prompts)

    def begin_step(self, positions: Int[Tensor, " N"], visible: int) -> None:
        """Sets the positions to store in the next forward pass, which sees `visible` positions."""
        rows = torch.arange(len(positions), device=positions.device)
        self._step = Step(rows, positions, visible)
        if self.table is not None:
            self.table.make_room(range(len(positions)), (positions + 1).tolist())

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> KeysAndValues:
        """Stores one key and value per running sequence; returns all visible ones."""
        return self._layers[layer_idx].update(key_states, value_states, self._step)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of positions visible in the current step."""
        return self._step.visible

    def admit(
        self,
        prefilled: DynamicCache,
        source: Int[Tensor, " N"],
        slots: Int[Tensor, " N"],
        lengths: Int[Tensor, " N"],
    ) -> None:
        """Copies the first `lengths[i]` positions of row `source[i]` into slot `slots[i]`."""
        prompts = Prompts(source, slots, lengths)
        self._step.visible = max(self._step.visible, int(lengths.max()))
        if self.table is not None:
            self.table.make_room(slots.tolist(), lengths.tolist())
        for layer, filled in enumerate(prefilled.layers):
            if layer == len(self._layers):
                self._layers.append(self._empty_layer(layer))
            self._layers[layer].admit(filled.keys, filled.values, prompts)

    def release(self, finished: Sequence[int], movers: list[int], holes: list[int]) -> None:
        """Frees the slots `finished` and copies slots `movers` to the slots `holes`."""
        if self.table is not None:
            self.table.release(finished, movers, holes)
        if holes:
            source, target = torch.tensor(movers), torch.tensor(holes)
            for layer in self._layers:
                layer.move(source, target)

    def _empty_layer(self, layer: int) -> LayerCache:
        window = self._window_of(layer)
        if window is not None:
            return Ring(self._slots, self._capacity, window)
        if self.table is not None:
            return Pages(self.table)
        return Block(self._slots, self._capacity)


class Block:
    """One column per position. The number of columns doubles as needed."""

    def __init__(self, slots: int, capacity: int) -> None:
        self._slots = slots
        self._capacity = capacity
        self.held: tuple[Tensor, Tensor] | None = None
        """Keys and values of all slots; None before the first prompt."""
        self._used = 0

    def reserve(self, slots: int, capacity: int) -> None:
        """Sets the number of slots and positions, from the next prompt on."""
        self._slots, self._capacity = slots, capacity

    def admit(self, keys: Tensor, values: Tensor, prompts: Prompts) -> None:
        """Copies prefilled keys and values into slots, including padding."""
        length = keys.shape[2]
        for block, filled in zip(self._expand((keys, values), length), (keys, values), strict=True):
            block[prompts.slots, :, :length] = filled[prompts.source]

    def update(self, keys: Tensor, values: Tensor, step: Step) -> KeysAndValues:
        """Stores one key and value per running sequence; returns all visible ones."""
        running = len(step.positions)
        blocks = self._expand((keys, values), step.visible)
        for block, new in zip(blocks, (keys, values), strict=True):
            block[step.rows, :, step.positions] = new[:, :, 0]
        k, v = (block[:running, :, : step.visible] for block in blocks)
        return k, v

    def move(self, source: Int[Tensor, " M"], target: Int[Tensor, " M"]) -> None:
        """Copies slots `source` over slots `target`."""
        for block in self.held or ():
            block[target, :, : self._used] = block[source, :, : self._used]

    def _expand(self, like: tuple[Tensor, Tensor], columns: int) -> tuple[Tensor, Tensor]:
        """Keys and values, with room for that many columns."""
        self._used = max(self._used, columns)
        if self.held is None:
            self.held = like[0][:0, :, :0], like[1][:0, :, :0]
        rows, heads, width, _ = self.held[0].shape
        if rows < self._slots or width < columns:
            if 0 < width < columns:
                columns = max(columns, min(2 * width, self._capacity))
            keys, values = (
                expand(tensor, self._slots, heads, columns, tensor.shape[3]) for tensor in self.held
            )
            self.held = keys, values
        return self.held


class Ring:
    """The last `window` positions of each sequence, position p in column p modulo the window."""

    def __init__(self, slots: int, capacity: int, window: int) -> None:
        self._block = Block(slots, min(capacity, window))
        self._window = window

    def admit(self, keys: Tensor, values: Tensor, prompts: Prompts) -> None:
        """Copies the last positions of prefilled keys and values into slots."""
        columns = torch.arange(min(keys.shape[2], self._window), device=keys.device)
        kept = ring_positions(prompts.lengths - 1, columns, self._window).clamp(min=0)
        at = kept[:, None, :, None]
        rows = Prompts(torch.arange(len(kept), device=keys.device), prompts.slots, prompts.lengths)
        self._block.admit(
            keys[prompts.source].take_along_dim(at, 2),
            values[prompts.source].take_along_dim(at, 2),
            rows,
        )

    def update(self, keys: Tensor, values: Tensor, step: Step) -> KeysAndValues:
        """Stores one key and value per running sequence; returns all visible ones."""
        in_ring = Step(step.rows, step.positions % self._window, min(step.visible, self._window))
        return self._block.update(keys, values, in_ring)

    def move(self, source: Int[Tensor, " M"], target: Int[Tensor, " M"]) -> None:
        """Copies slots `source` to slots `target`."""
        self._block.move(source, target)

    def reserve(self, slots: int, capacity: int) -> None:
        """Sets the number of slots and positions, from the next prompt on."""
        self._block.reserve(slots, min(capacity, self._window))


class Pages:
    """Pages of `PAGE` positions, gathered for each pass."""

    def __init__(self, table: PageTable) -> None:
        self._table = table
        self._both: tuple[Tensor, Tensor] | None = None

    def admit(self, keys: Tensor, values: Tensor, prompts: Prompts) -> None:
        """Copies prefilled keys and values into the pages of their slots."""
        columns = torch.arange(keys.shape[2], device=keys.device)
        row, position = (columns < prompts.lengths[:, None]).nonzero(as_tuple=True)
        cells = self._table.slot_mapping(prompts.slots[row], position)
        for pool, filled in zip(self._expand(keys, values), (keys, values), strict=True):
            pool.flatten(0, 1)[cells] = filled[prompts.source[row], :, position]

    def update(self, keys: Tensor, values: Tensor, step: Step) -> KeysAndValues:
        """Stores one key and value per running sequence; returns all visible ones."""
        cells = self._table.slot_mapping(step.rows, step.positions)
        pages = self._table.pages_of(len(step.rows), step.visible)
        found = []
        for pool, new in zip(self._expand(keys, values), (keys, values), strict=True):
            pool.flatten(0, 1)[cells] = new[:, :, 0]
            gathered = pool.index_select(0, pages.flatten()).view(len(pages), -1, *pool.shape[2:])
            found.append(gathered[:, : step.visible].transpose(1, 2))
        return found[0], found[1]

    def move(self, source: Int[Tensor, " M"], target: Int[Tensor, " M"]) -> None:
        """Does nothing: the page table has changed instead."""

    def reserve(self, slots: int, capacity: int) -> None:
        """Does nothing: the page table has room."""

    def _expand(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values with space for all pages of the table."""
        size = self._table.size
        if self._both is None or len(self._both[0]) < size:
            old = self._both or (None, None)
            pools = [
                new.new_zeros(size, PAGE, new.shape[1], new.shape[3]) for new in (keys, values)
            ]
            for pool, before in zip(pools, old, strict=True):
                if before is not None:
                    pool[: len(before)] = before
            self._both = pools[0], pools[1]
        return self._both


def ring_positions(
    last: Int[Tensor, " N"], columns: Int[Tensor, " C"], window: int
) -> Int[Tensor, "N C"]:
    """Position stored in each column of a ring for sequences with last position `last`.

    Negative for empty columns.
    """
    return last[:, None] - (last[:, None] - columns) % window
