"""Access to private names of Transformers and PyTorch that have no public equivalent.

No other module uses private names. Each name is looked up on use; if the installed version does not
have it, the error says which name is missing and what it is needed for.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from steadyrl.base.errors import UserError


def recorded_modules(model: nn.Module, output: str) -> tuple[type[nn.Module], ...]:
    """Classes of the modules whose `output` Transformers records; empty if none are declared."""
    for part in model.modules():  # a submodule may declare them if the model does not
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


@contextmanager
def checkpointed_with(
    model: nn.Module, context_fn: Callable[[], tuple[Any, Any]]
) -> Iterator[None]:
    """Adds `context_fn` to the activation checkpointing of the model's layers.

    Raises:
        UserError: it is reentrant, and so takes no contexts.
    """
    name = "_gradient_checkpointing_func"
    layers = [part for part in model.modules() if getattr(part, "gradient_checkpointing", False)]
    functions = [_found(part, name, "transformers", "recomputation") for part in layers]
    if any(getattr(function, "keywords", {}).get("use_reentrant") for function in functions):
        raise UserError(
            "Activation checkpointing is reentrant, so it cannot recompute the routing of its "
            "forward pass. Set use_reentrant to False."
        )
    for part, function in zip(layers, functions, strict=True):
        setattr(part, name, partial(function, context_fn=context_fn))
    try:
        yield
    finally:
        for part, function in zip(layers, functions, strict=True):
            setattr(part, name, function)


def changes(tensor: Tensor) -> int:
    """Number of in-place writes to `tensor`. Not available for inference-mode tensors."""
    return cast(int, _found(tensor, "_version", "torch", "rounding of activations"))


def attention_name(config: PreTrainedConfig) -> str:
    """Attention implementation of a model with `config`, for example `sdpa`."""
    return cast(
        str, _found(config, "_attn_implementation", "transformers", "attention masks of ours")
    )


def commit_of(config: PreTrainedConfig) -> str | None:
    """Commit of the repository on the Hub that `config` was read from; None: another source."""
    return getattr(config, "_commit_hash", None)


def model_of(family: type[PreTrainedModel], config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """A newly initialized model of `family`."""
    build = _found(family, "_from_config", "transformers", "copies of the policy")
    return cast(PreTrainedModel, build(config, dtype=dtype))


def dtypes_by_pattern(model: PreTrainedModel, dtype: torch.dtype) -> Mapping[str, torch.dtype]:
    """Dtypes, by name pattern, of weights that `from_pretrained` does not load in `dtype`."""
    plan = _found(model, "_get_dtype_plan", "transformers", "types of the engine's weights")
    return cast(Mapping[str, torch.dtype], plan(dtype))


def to_saved_form(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts some of a model's weights to the form written by `save_pretrained`."""
    module = import_module("transformers.core_model_loading")
    revert = _found(module, "revert_weight_conversion", "transformers", "weights for other engines")
    return cast(dict[str, Tensor], revert(model, weights))


def mark_initialized(weight: Tensor) -> None:
    """Prevents `initialize_weights` from overwriting `weight`."""
    vars(weight)["_is_hf_initialized"] = True


def without_data() -> AbstractContextManager[Any]:
    """Within it, tensors have shapes, dtypes and devices, but no data and no memory."""
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    mode = _found(torch, "_subclasses", "torch", "memory plans").FakeTensorMode
    return cast(AbstractContextManager[Any], mode(allow_non_fake_inputs=True))


def wrap_gate(experts: nn.Module, wrap: Callable[[Tensor], Tensor]) -> None:
    """Applies `wrap` to the output of the inner activation of `experts`.

    This works for experts implementations that call the activation, such as `grouped_mm`.
    """
    name = "_apply_gate"
    gate = _found(experts, name, "transformers", "rounding inside experts")
    vars(experts)[name] = lambda values: wrap(gate(values))


def has_onednn_linear() -> bool:
    """Whether `onednn_linear` can be called."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer by oneDNN, without derivatives. Any tensor may be strided."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def _found(owner: Any, name: str, package: str, purpose: str) -> Any:
    """The attribute `name` of `owner`.

    Raises:
        UserError: the installed version of the package does not have it.
    """
    if not hasattr(owner, name):
        raise UserError(
            f"{package} {version(package)} has no {name}, which is needed for {purpose}. Install a "
            "version of it that constraints.txt names."
        )
    return getattr(owner, name)
