"""Private names of Transformers and PyTorch that have no public counterpart.

No other module uses one. Each is looked up when it is needed; where a version of these packages
lacks one, the error names it and what it is needed for.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from steadyrl.base.errors import UserError


def recorded_modules(model: nn.Module, output: str) -> tuple[type[nn.Module], ...]:
    """Classes of the modules from which Transformers takes an output; empty if it names none."""
    for part in model.modules():  # where a model names none, what it is made of may
        recorder = (getattr(part, "_can_record_outputs", None) or {}).get(output)
        recorders = recorder if isinstance(recorder, list) else [recorder]
        found = tuple(getattr(item, "target_class", None) or item for item in recorders if item)
        if found:
            return found
    return ()


def in_backward_pass() -> bool:
    """Whether autograd is running a backward pass in this thread."""
    task = _found(getattr(torch, "_C", None), "_current_graph_task_id", "torch", "recomputation")
    return task() != -1


def changes(tensor: Tensor) -> int:
    """How often `tensor` was written in place. Not for tensors of inference mode."""
    return cast(int, _found(tensor, "_version", "torch", "rounding of activations"))


def attention_name(config: PreTrainedConfig) -> str:
    """Implementation of attention that a model with `config` uses, as sdpa."""
    return cast(
        str, _found(config, "_attn_implementation", "transformers", "attention masks of ours")
    )


def model_of(family: type[PreTrainedModel], config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """A model of `family` with the weights of its initialization."""
    build = _found(family, "_from_config", "transformers", "copies of the policy")
    return cast(PreTrainedModel, build(config, dtype=dtype))


def dtypes_by_pattern(model: PreTrainedModel, dtype: torch.dtype) -> Mapping[str, torch.dtype]:
    """Types of the weights that `from_pretrained` keeps in another type than `dtype`."""
    plan = _found(model, "_get_dtype_plan", "transformers", "types of the engine's weights")
    return cast(Mapping[str, torch.dtype], plan(dtype))


def to_saved_form(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Some of a model's weights as `save_pretrained` writes them: renamed, split or joined."""
    module = import_module("transformers.core_model_loading")
    revert = _found(module, "revert_weight_conversion", "transformers", "weights for other engines")
    return cast(dict[str, Tensor], revert(model, weights))


def mark_initialized(weight: Tensor) -> None:
    """Keeps `initialize_weights` from writing `weight`."""
    vars(weight)["_is_hf_initialized"] = True


def wrap_gate(experts: nn.Module, wrap: Callable[[Tensor], Tensor]) -> None:
    """Lets `wrap` change what the inner activation of `experts` returns.

    The experts implementation `grouped_mm` is one that calls it.
    """
    name = "_apply_gate"
    gate = _found(experts, name, "transformers", "rounding inside experts")
    vars(experts)[name] = lambda values: wrap(gate(values))


def _found(owner: Any, name: str, package: str, purpose: str) -> Any:
    """The attribute `name` of `owner`.

    Raises:
        UserError: this version of the package has none.
    """
    if not hasattr(owner, name):
        raise UserError(
            f"{package} {version(package)} has no {name}, which is needed for {purpose}. Install a "
            "version of it that constraints.txt names."
        )
    return getattr(owner, name)
