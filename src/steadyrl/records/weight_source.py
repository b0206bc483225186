"""Streams of weights from a learner to an engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from steadyrl.base.errors import UserError

Naming = Literal["model", "checkpoint"]
"""model: names in the `state_dict()` of the Transformers model. checkpoint: names in the files
written by `save_pretrained`, which vLLM and SGLang read. There, experts that the model fuses are
separate, and a tied weight has one name."""

WeightKind = Literal["full", "adapter"]
"""full: every weight of the model. adapter: the weights of a LoRA adapter on an unchanged base."""

NamedTensors = Iterable[tuple[str, Tensor]]


@runtime_checkable
class WeightSource(Protocol):
    """The weights of one policy version, one tensor at a time.

    No process has to hold all weights: a sharded learner gathers each tensor on request.
    """

    @property
    def version(self) -> int:
        """Policy version of the weights."""
        ...

    @property
    def kind(self) -> WeightKind:
        """Whether the stream holds all weights or an adapter."""
        ...

    def tensors(self, naming: Naming = "checkpoint") -> Iterator[tuple[str, Tensor]]:
        """Yields each weight once, with its name. A tensor is valid until the next is requested.

        Every rank of a sharded learner must iterate over all weights, in order.
        """
        ...


@runtime_checkable
class AdapterSource(WeightSource, Protocol):
    """Weights of a LoRA adapter under the names of PEFT's `adapter_model.safetensors`."""

    @property
    def adapter_config(self) -> Mapping[str, Any]:
        """Content of PEFT's `adapter_config.json`: rank, scaling, target modules."""
        ...

    @property
    def merged(self) -> WeightSource | None:
        """The base model with the adapter added to its weights; None: the base is not known."""
        ...


def full_weights(source: WeightSource) -> WeightSource:
    """`source` itself, or its merged weights if it is an adapter.

    Raises:
        UserError: it is an adapter whose base model is not known.
    """
    if source.kind == "full":
        return source
    merged = source.merged if isinstance(source, AdapterSource) else None
    if merged is None:
        raise UserError(
            "This engine takes the weights of whole models, but got a LoRA adapter without its "
            "base model. Merge the adapter into the model, or choose an engine that takes adapters."
        )
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDictWeights:
    """Weights held by this process under the model's names.

    Example:
        StateDictWeights(state=model.state_dict(), version=3)
    """

    state: Mapping[str, Tensor]
    version: int
    kind: WeightKind = "full"

    to_checkpoint: Callable[[NamedTensors], Iterator[tuple[str, Tensor]]] = iter
    """Converts the model's tensors to the checkpoint format by renaming, splitting or joining; by
    default the names are the same."""

    def tensors(self, naming: Naming = "checkpoint") -> Iterator[tuple[str, Tensor]]:
        """Yields each weight once, with its name. Under the model's names nothing is copied."""
        if naming == "model":
            return iter(self.state.items())
        return self.to_checkpoint(self.state.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterWeights:
    """A LoRA adapter held by this process.

    Example:
        AdapterWeights(state={"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": a, ...},
                       adapter_config={"peft_type": "LORA", "r": 8, "lora_alpha": 16,
                                       "target_modules": ["up_proj"]}, version=3)
    """

    state: Mapping[str, Tensor]
    adapter_config: Mapping[str, Any]
    version: int
    kind: WeightKind = "adapter"

    merged: WeightSource | None = None
    """The base model with the adapter added, for engines that take whole models."""

    def tensors(self, naming: Naming = "checkpoint") -> Iterator[tuple[str, Tensor]]:
        """Yields each weight once, with its name, which is the same in both namings."""
        return iter(self.state.items())
