"""Limits on the number of tokens per row."""

from collections.abc import Iterator

from transformers import PreTrainedModel

from steadyrl.base.errors import UserError


def max_positions(model: PreTrainedModel) -> int | None:
    """Maximum number of tokens of a prompt with its response; None: no limit."""
    config = model.config.get_text_config()
    limits = (getattr(config, "max_position_embeddings", None), frequency_change(model))
    return min((limit for limit in limits if limit is not None), default=None)


def frequency_change(model: PreTrainedModel) -> int | None:
    """Row length beyond which `model` changes its rotary frequencies; None: they never change.

    This happens for the `rope_type` longrope and dynamic. The new frequencies then apply to every
    row of the batch, whatever its length, and cached keys keep the old ones.
    """
    return min(_changes(model), default=None)


class RowLimit:
    """Rejects batches in which the outputs of a row would depend on the other rows."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._family = type(model).__name__
        self._change = frequency_change(model)

    def check(self, length: int) -> None:
        """Checks that rows of `length` tokens have the same rotary frequencies as shorter rows.

        Raises:
            UserError: the rows are too long.
        """
        if self._change is not None and length > self._change:
            raise UserError(
                f"Rows have up to {length} tokens, but beyond {self._change} tokens {self._family} "
                "changes the rotary frequencies of every row of a batch, so that the outputs of a "
                "row depend on the other rows. Keep prompts with their responses within "
                f"{self._change} tokens."
            )


def _changes(model: PreTrainedModel) -> Iterator[int]:
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
        for layer, kind in by_layer.items():
            if kind == "longrope":
                parameters = module.config.rope_parameters
                parameters = parameters if layer is None else parameters[layer]
                yield parameters["original_max_position_embeddings"]
            elif "dynamic" in (kind or ""):
                yield module.config.max_position_embeddings
