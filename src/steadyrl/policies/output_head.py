"""The output head of a model, computed only at requested positions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from steadyrl.policies.float32_head import (
    LINEAR_HEADS,
    Float32Linear,
    HeadDtype,
    check_float32_head,
)
from steadyrl.policies.probes import unsupported_reason
from steadyrl.policies.token_scores import scores_by_head, scores_of_logits
from steadyrl.records.support import Support


class OutputHead:
    """The output embedding of a model, and any logit cap or factor that its family applies.

    Args:
        model: Model with the head. It is run on a few tokens to detect its behavior.

    Raises:
        UserError: the head should compute in float32, but the family does not support it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._embedding = cast(nn.Module, model.get_output_embeddings())
        self.dtype: HeadDtype = "model"
        """Dtype of the head's matrix product."""
        if isinstance(self._embedding, Float32Linear):
            check_float32_head(model)
            self.dtype = "float32"
        self.is_plain = _is_plain(model) and unsupported_reason(_cap_or_factor, model) is None
        """Whether logits are the output embedding of the last states, without cap or factor."""
        self._selects = not self.is_plain and self._selects_right()

    @property
    def linear(self) -> nn.Linear:
        """The head, if it is plain."""
        assert self.is_plain
        return cast(nn.Linear, self._embedding)

    def states(self, inputs: Mapping[str, Any], at: Bool[Tensor, "B S"]) -> Float[Tensor, "N D"]:
        """Last hidden states at the positions `at`, row after row."""
        return self._model.base_model(**inputs).last_hidden_state[at]

    def logits(
        self, inputs: Mapping[str, Any], at: Bool[Tensor, "B S"] | None
    ) -> Float[Tensor, "N V"]:
        """Logits at the positions `at`, or at all positions, row after row.

        No other logits are computed, unless the family's head does not accept selected states.
        """
        if at is None:
            return self._model(**inputs).logits.flatten(0, 1)
        if self.is_plain:
            return self.linear(self.states(inputs, at))
        if not self._selects:
            return self._model(**inputs).logits[at]
        with _given_alone(self._embedding, at):
            return self._model(**inputs).logits[0]

    @torch.no_grad()
    def _selects_right(self) -> bool:
        """Whether logits of selected states equal the selection from all logits."""
        if not isinstance(self._embedding, nn.Module):
            return False
        tokens = torch.arange(4, device=self._model.device).remainder(3).view(2, 2)
        at = torch.eye(2, dtype=torch.bool, device=tokens.device).flip(0)
        inputs = {"input_ids": tokens, "use_cache": False}
        expected = self._model(**inputs).logits[at]
        try:
            with _given_alone(self._embedding, at):
                found = self._model(**inputs).logits
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
            return False
        tolerance = torch.finfo(expected.dtype).eps ** 0.5
        return found.shape == (1, *expected.shape) and torch.allclose(
            found[0], expected, rtol=tolerance, atol=tolerance
        )

    def scores(
        self,
        features: Float[Tensor, "N D"],
        targets: Int[Tensor, "N C"],
        *,
        temperature: float,
        support: Support | None,
        memory: int,
    ) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]:
        """Log-probabilities of `targets` and entropies, given the states or logits before them."""
        if self.is_plain:
            score = partial(scores_by_head, features, self.linear)
        else:
            score = partial(scores_of_logits, features)
        return score(targets, temperature=temperature, support=support, memory=memory)


@contextmanager
def _given_alone(embedding: nn.Module, at: Bool[Tensor, "B S"]) -> Iterator[None]:
    """Context in which `embedding` only receives the states at these positions, as one row."""
    handle = embedding.register_forward_pre_hook(lambda _, args: (args[0][at][None], *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def _cap_or_factor(model: PreTrainedModel) -> str | None:
    """Probe for a cap or factor. It needs a float32 copy: in bfloat16, a cap of 30 does not change
    small logits.
    """
    return None if _is_plain(model) else f"{type(model).__name__} modifies the output of its head."


def _is_plain(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    if type(head) not in LINEAR_HEADS or model.base_model is model:
        return False
    tokens = torch.arange(2, device=model.device)[None]
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
        outputs = model.base_model(input_ids=tokens, use_cache=False)
        hidden = getattr(outputs, "last_hidden_state", None)
        if hidden is None or hidden.shape[-1] != head.in_features:  # as Electra, which narrows it
            return False
        casts = isinstance(head, Float32Linear)
        if not casts and hidden.dtype != head.weight.dtype:  # as Mamba in bfloat16
            return False
        return torch.equal(head(hidden), logits)
