"""An output head that computes in float32 in a model of lower precision.

Engine and trainer compute nearly the same last hidden state with different kernels. In bfloat16,
the output head then rounds the logits of both to 8 significant bits, which arXiv:2506.13585
(MiniMax-M1) found to be the main source of the training-inference discrepancy. arXiv:2510.13786
(ScaleRL) also trains with a float32 head.
"""

from collections import Counter
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.products import FastLinear, linear
from steadyrl.policies.small_copy import FAILURES

HeadDtype = Literal["model", "float32"]
"""Dtype of the output head's matrix product: the model's dtype, or float32."""

_FINE = 1 + 2**-14
"""A value that bfloat16 and float16 round to 1."""


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, whatever the dtypes of input and weight."""

    def forward(self, states: Tensor) -> Tensor:
        """Output in float32."""
        bias = None if self.bias is None else self.bias.float()
        return linear(states.float(), self.weight.float(), bias)


LINEAR_HEADS = (nn.Linear, FastLinear, Float32Linear)
"""Classes of heads that multiply by a weight and do nothing else."""


def widen_head(model: PreTrainedModel) -> list[str]:
    """Makes the output head of `model` compute in float32, in place.

    Returns:
        Names of the weights that only the head uses and that should be float32. A weight tied to
        the embedding keeps its dtype and is cast at each use.

    Raises:
        UserError: the head is not a linear layer.
    """
    head = model.get_output_embeddings()
    if type(head) not in LINEAR_HEADS:
        raise _unsupported(model, f"it is a {type(head).__name__}, not a linear layer")
    head.__class__ = Float32Linear  # in place: the family may hold it under several names
    named = dict(model.named_parameters(remove_duplicate=False))
    uses = Counter(map(id, named.values()))
    own = {id(weight) for weight in head.parameters() if uses[id(weight)] == 1}
    return [name for name, weight in named.items() if id(weight) in own]


def separate_head(model: PreTrainedModel) -> None:
    """Gives the float32 head of `model` its own float32 weight, even if it was tied.

    For inference models, so that the weight is not cast at each use.
    """
    head = model.get_output_embeddings()
    assert isinstance(head, Float32Linear)
    head.weight = nn.Parameter(head.weight.detach().float())


@torch.no_grad()
def check_float32_head(model: PreTrainedModel) -> None:
    """Checks that the logits of `model` keep the precision of its float32 head.

    Raises:
        UserError: the family rounds the logits, does not call the head's module, or fails.
    """
    try:
        coarse, fine = (_logits_of(model, value) for value in (1.0, _FINE))
    except FAILURES as error:
        raise _unsupported(model, f"the family fails with it: {error}") from error
    if fine.dtype != torch.float32 or torch.equal(coarse, fine):
        raise _unsupported(model, "the family rounds its logits, or computes them elsewhere")


def _logits_of(model: PreTrainedModel, value: float) -> Tensor:
    """Logits of the model if the head outputs `value` everywhere."""
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _, args, output: torch.full_like(output, value))
    try:
        tokens = torch.arange(2, device=model.device)[None]
        return model(input_ids=tokens, use_cache=False).logits
    finally:
        handle.remove()


def _unsupported(model: PreTrainedModel, reason: str) -> UserError:
    return UserError(
        f"The output head of {type(model).__name__} cannot be computed in float32: {reason}. Set "
        "learner.head_dtype and engine.head_dtype to 'model'."
    )
