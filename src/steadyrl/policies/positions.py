"""How many tokens a row may have."""

from collections.abc import Iterator

from transformers import PreTrainedModel

from steadyrl.base.errors import UserError


def most_positions(model: PreTrainedModel) -> int | None:
    """Tokens that a prompt and its answer may have together; None: no limit."""
    config = model.config.get_text_config()
    limits = (getattr(config, "max_position_embeddings", None), frequency_change(model))
    return min((limit for limit in limits if limit is not None), default=None)


def frequency_change(model: PreTrainedModel) -> int | None:
    """The length of a row beyond which `model` turns its positions by other frequencies.

    As with `rope_type` longrope and dynamic. Every row of the batch is then turned so, whatever its
    own length, and keys that are cached are not turned again. None if frequencies never change.
    """
    return min(_changes(model), default=None)


class RowLimit:
    """Refuses batches in which what `model` says of a row would depend on its neighbours."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._family = type(model).__name__
        self._change = frequency_change(model)

    def check(self, length: int) -> None:
        """Proves that rows of `length` tokens are turned by the frequencies of shorter ones.

        Raises:
            UserError: they are not.
        """
        if self._change is not None and length > self._change:
            raise UserError(
                f"Rows have up to {length} tokens, but beyond {self._change} {self._family} turns "
                "the positions of every row of a batch by other rotary frequencies, so that what "
                "it says of a row depends on its neighbours. Keep prompts with their answers "
                f"within {self._change} tokens."
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
