"""Additive attention masks in the format that a model family expects."""

from inspect import signature

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.compat import attention_name


class AttentionMasks:
    """Attention masks for sequences whose token positions differ from their column indices.

    Args:
        dtype: Dtype of the masks; None: that of the model's weights.

    Raises:
        UserError: the family has layers without keys and values, does not accept positions or
            masks, or uses column indices itself.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        config = model.config.get_text_config()
        self._dtype = dtype or model.dtype
        attention = attention_name(config)
        if attention not in ("sdpa", "eager"):
            raise UserError(
                f"{type(model).__name__} computes attention with {attention}, which does not "
                "accept custom masks. Load it with sdpa or eager."
            )
        kinds = set(getattr(config, "layer_types", None) or ())
        unknown = kinds - {"full_attention", "sliding_attention"}
        if unknown:
            raise UserError(
                f"{type(model).__name__} has layers of type {sorted(unknown)}, which keep no "
                "keys and values per position."
            )
        if "position_ids" not in signature(model.forward).parameters:
            raise UserError(
                f"{type(model).__name__} takes no position_ids, so sequences of different "
                "lengths cannot share a batch."
            )
        if "local" in (getattr(config, "attention_layers", None) or ()):
            raise UserError(
                f"{type(model).__name__} has layers of local attention, whose window counts "
                "columns of the batch instead of positions."
            )
        if getattr(config, "alibi", False):
            raise UserError(
                f"{type(model).__name__} has alibi: true, so its attention counts columns of the "
                "batch instead of positions."
            )
        self._by_kind = "sliding_attention" in kinds
        # Families with `layer_types` may configure a window that no layer uses.
        windowed = self._by_kind or not kinds
        self._window: int | None = getattr(config, "sliding_window", None) if windowed else None
        self._kinds = tuple(getattr(config, "layer_types", None) or ())

    @property
    def window(self) -> int | None:
        """Window size of sliding attention layers in positions; None: no such layers."""
        return self._window

    def window_of(self, layer: int) -> int | None:
        """Window size of `layer` in positions; None: full attention."""
        slides = not self._by_kind or self._kinds[layer] == "sliding_attention"
        return self._window if slides else None

    def of(
        self,
        queries: Int[Tensor, "B Q"],
        keys: Int[Tensor, "#B S"],
        absent: Bool[Tensor, "B S"] | None = None,
        in_window: Int[Tensor, "B W"] | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Masks for queries at positions `queries` and keys at positions `keys`.

        Args:
            absent: Keys that do not belong to the row.
            in_window: Positions of the keys cached by sliding attention layers, negative for empty
                entries; None: the same as `keys`.
        """
        hidden = keys[:, None] > queries[:, :, None]
        if absent is not None:
            hidden = hidden | absent[:, None]
        full = self._additive(hidden)
        if self._window is None:
            return full
        if in_window is not None:
            keys = in_window
            hidden = (keys[:, None] > queries[:, :, None]) | (keys[:, None] < 0)
        too_far = keys[:, None] <= queries[:, :, None] - self._window
        sliding = self._additive(hidden | too_far)
        if self._by_kind:
            return {"full_attention": full, "sliding_attention": sliding}
        return sliding

    def _additive(self, hidden: Bool[Tensor, "B Q S"]) -> Float[Tensor, "B 1 Q S"]:
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=hidden.device)
        return mask.masked_fill_(hidden, torch.finfo(self._dtype).min)[:, None]
