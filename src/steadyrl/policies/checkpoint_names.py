"""Conversion of a stream of weights to the names of the checkpoint format.

Transformers fuses weights when it loads them: the experts of a layer are one tensor in the model
but separate tensors in the files. Engines such as vLLM expect the names in the files.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.policies.compat import to_saved_form

_LAYER = re.compile(r"^.*?\.\d+\.")


def to_checkpoint_names(
    model: PreTrainedModel, tensors: Iterable[tuple[str, Tensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Yields `tensors` as `model.save_pretrained` would write them, layer by layer.

    Args:
        tensors: Weights under the names of `model.state_dict()`, in the same order. Only the
            weights of one layer are held at a time.
    """
    tied = model.all_tied_weights_keys
    kept = ((name, tensor) for name, tensor in tensors if name not in tied)
    for _, layer in groupby(kept, key=lambda named: _layer(named[0])):
        yield from to_saved_form(model, dict(layer)).items()


def _layer(name: str) -> str:
    """Prefix of the names of a layer's weights; the whole name for other weights."""
    found = _LAYER.match(name)
    return name if found is None else found[0]
