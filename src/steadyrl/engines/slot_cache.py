"""Keys and values of the sequences being written, one slot each, written in place."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache


class SlotCache(Cache):
    """A key-value cache whose rows are slots of sequences of different lengths.

    Running sequences occupy slots `0 .. running - 1`. Before each forward pass, `positions` says
    where in its slot each of them writes its next key and value. Columns come as they are needed,
    and twice as many each time.

    Args:
        capacity: Columns that may be needed.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        super().__init__(layers=[])
        self._slots = slots
        self._capacity = capacity
        self._columns = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows = torch.empty(0, dtype=torch.long)
        self.positions = torch.empty(0, dtype=torch.long)
        self.visible = 0

    def begin_step(self, positions: Int[Tensor, " N"], visible: int) -> None:
        """The next forward pass writes at `positions` and sees the first `visible` columns."""
        self.positions, self.visible = positions, visible
        self._rows = torch.arange(len(positions), device=positions.device)
        self._make_room(visible)

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
        length = prefilled.layers[0].keys.shape[2]
        self._make_room(length)
        self.visible = max(self.visible, length)
        for layer, filled in enumerate(prefilled.layers):
            if layer == len(self._keys):
                self._keys.append(self._widened(filled.keys[:0]))
                self._values.append(self._widened(filled.values[:0]))
            self._keys[layer][slots, :, :length] = filled.keys[source]
            self._values[layer][slots, :, :length] = filled.values[source]

    def move(self, source: Int[Tensor, " M"], target: Int[Tensor, " M"]) -> None:
        """Copies slots `source` over slots `target`."""
        for tensor in (*self._keys, *self._values):
            tensor[target, :, : self.visible] = tensor[source, :, : self.visible]

    def _make_room(self, columns: int) -> None:
        """Lets every slot have that many columns."""
        if columns > self._columns:
            self._columns = max(columns, min(2 * self._columns, self._capacity))
            for tensors in (self._keys, self._values):
                for layer, tensor in enumerate(tensors):
                    tensors[layer] = self._widened(tensor)

    def _widened(self, tensor: Float[Tensor, "_S H _C D"]) -> Float[Tensor, "S H C D"]:
        """`tensor` with zeros in the slots and columns that it lacks."""
        rows, heads, columns, width = tensor.shape
        widened = tensor.new_zeros(self._slots, heads, self._columns, width)
        widened[:rows, :, :columns] = tensor
        return widened
