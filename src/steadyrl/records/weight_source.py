"""Weights on their way from a learner to an engine, as a stream."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

Naming = Literal["model", "checkpoint"]
"""model: names of the Transformers model's `state_dict()`. checkpoint: names of the files that
`save_pretrained` writes, which vLLM and SGLang read; experts that the model fuses are separate
there, and a tied weight has one name."""

WeightKind = Literal["full", "adapter"]
"""full: every weight of the model. adapter: the weights of a LoRA adapter, over an unchanged base.
"""

NamedTensors = Iterable[tuple[str, Tensor]]


@runtime_checkable
class WeightSource(Protocol):
    """The weights of one policy version, one tensor at a time.

    No process has to hold all of them: a sharded learner gathers each tensor when it is asked for.
    """

    @property
    def version(self) -> int:
        """Version of the policy that has these weights."""
        ...

    @property
    def kind(self) -> WeightKind:
        """Whether the stream holds all weights or those of an adapter."""
        ...

    def tensors(self, naming: Naming = "checkpoint") -> Iterator[tuple[str, Tensor]]:
        """Each weight once, with its name. A tensor is valid until the next one is taken.

        Every rank of a sharded learner has to take all of them, in order.
        """
        ...


@runtime_checkable
class AdapterSource(WeightSource, Protocol):
    """The weights of a LoRA adapter, under the names of peft's `adapter_model.safetensors`."""

    @property
    def adapter_config(self) -> Mapping[str, Any]:
        """Content of peft's `adapter_config.json`: rank, scaling, target modules."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDictWeights:
    """Weights that this process holds under the model's names.

    Example:
        StateDictWeights(state=model.state_dict(), version=3)
    """

    state: Mapping[str, Tensor]
    version: int
    kind: WeightKind = "full"

    to_checkpoint: Callable[[NamedTensors], Iterator[tuple[str, Tensor]]] = iter
    """Renames, splits or joins the model's tensors as the checkpoint format has them; by default
    both have the same names."""

    def tensors(self, naming: Naming = "checkpoint") -> Iterator[tuple[str, Tensor]]:
        """Each weight once, with its name; no copies are made under the model's names."""
        if naming == "model":
            return iter(self.state.items())
        return self.to_checkpoint(self.state.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterWeights:
    """A LoRA adapter that this process holds.

    Example:
        AdapterWeights(state={"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": a, ...},
                       adapter_config={"peft_type": "LORA", "r": 8, "lora_alpha": 16,
                                       "target_modules": ["up_proj"]}, version=3)
    """

    state: Mapping[str, Tensor]
    adapter_config: Mapping[str, Any]
    version: int
    kind: WeightKind = "adapter"

    def tensors(self, naming: Naming = "checkpoint") -> Iterator[tuple[str, Tensor]]:
        """Each weight once, with its name, which is the same in both namings."""
        return iter(self.state.items())
