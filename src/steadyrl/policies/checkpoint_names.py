"""Weights of a model under the names of its checkpoint, as a stream.

Transformers fuses weights when it loads them: the experts of a layer are one tensor in the model
and one each in the files. Engines such as vLLM read the names of the files.
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
    """`tensors` as `model.save_pretrained` would write them, layer by layer.

    Args:
        tensors: Weights under the names of `model.state_dict()`, in its order. Only those of one
            layer are held at a time.
    """
    tied = model.all_tied_weights_keys
    kept = ((name, tensor) for name, tensor in tensors if name not in tied)
    for _, layer in groupby(kept, key=lambda named: _layer(named[0])):
        yield from to_saved_form(model, dict(layer)).items()


def _layer(name: str) -> str:
    """What the names of a layer's weights begin with; the whole name of other weights."""
    found = _LAYER.match(name)
    return name if found is None else found[0]
