"""Keys and values of the sequences being written, one slot each, written in place."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache


class SlotCache(Cache):
    """A key-value cache whose rows are slots of sequences of different lengths.

    Running sequences occupy slots `0 .. running - 1`. Before each forward pass, `positions` says
    where in its slot each of them writes its next key and value.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        super().__init__(layers=[])
        self._shape = (slots, capacity)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows = torch.empty(0, dtype=torch.long)
        self.positions = torch.empty(0, dtype=torch.long)
        self.visible = 0

    def begin_step(self, positions: Int[Tensor, " N"], visible: int) -> None:
        """The next forward pass writes at `positions` and sees the first `visible` columns."""
        self.positions, self.visible = positions, visible
        self._rows = torch.arange(len(positions), device=positions.device)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Float[Tensor, "N H S D"], Float[Tensor, "N H S D"]]:
        """Stores one key and value per running sequence; returns all it may attend to."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._rows, :, self.positions] = key_states[:, :, 0]
        values[self._rows, :, self.positions] = value_states[:, :, 0]
        running = len(self.positions)
        return keys[:running, :, : self.visible], values[:running, :, : self.visible]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns that the current step may see."""
        return self.visible

    def admit(
        self, prefilled: DynamicCache, source: Int[Tensor, " N"], slots: Int[Tensor, " N"]
    ) -> None:
        """Copies row `source[i]` of a prefilled cache into slot `slots[i]`."""
        for layer, filled in enumerate(prefilled.layers):
            if layer == len(self._keys):
                self._keys.append(self._allocate(filled.keys))
                self._values.append(self._allocate(filled.values))
            length = filled.keys.shape[2]
            self._keys[layer][slots, :, :length] = filled.keys[source]
            self._values[layer][slots, :, :length] = filled.values[source]
            self.visible = max(self.visible, length)

    def move(self, source: Int[Tensor, " M"], target: Int[Tensor, " M"]) -> None:
        """Copies slots `source` over slots `target`."""
        for tensor in (*self._keys, *self._values):
            tensor[target, :, : self.visible] = tensor[source, :, : self.visible]

    def _allocate(self, like: Tensor) -> Tensor:
        slots, capacity = self._shape
        _, heads, _, width = like.shape
        return like.new_zeros(slots, heads, capacity, width)
