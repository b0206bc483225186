"""Weights of a model that a LoRA adapter changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from steadyrl.base.errors import UserError
from steadyrl.policies.numerics import ROUTER_NAMES
from steadyrl.policies.routers import is_moe

ALL_LINEAR = "all-linear"

EXPERTS = "experts"
"""Name of the module that holds the experts of a layer."""

_EXPERT_MATRICES = frozenset(
    {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3"}
)
"""Names that peft gives to matrices of experts wherever the model has experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraTargets:
    """Adapted modules and parameters of a model, as fields of `peft.LoraConfig`."""

    modules: tuple[str, ...]
    """Names of linear layers, each the end of a path."""

    parameters: tuple[str, ...]
    """Names of fused expert weights, each the end of a path."""

    paths: frozenset[str]
    """Paths of all adapted modules, experts included."""

    transposed: bool
    """Linear layers hold their weights as `[in, out]`, as those of GPT-2."""

    @classmethod
    def of(cls, model: PreTrainedModel, names: Sequence[str], *, experts: bool) -> "LoraTargets":
        """The targets of the settings `names` and `experts` in `model`.

        Raises:
            UserError: a name is unknown or cannot be adapted, or there are no experts.
        """
        layers = dict(_linear_layers(model))
        chosen = [path for path in layers if _refusal(model, path) is None]
        if tuple(names) != (ALL_LINEAR,):
            chosen = [path for name in names for path in _named(model, name, [*layers], chosen)]
        fused = [*_fused_experts(model)] if experts else []
        if experts and not fused:
            raise UserError(
                f"learner.lora.experts is true, but {type(model).__name__} has no experts with "
                "fused weights, which is how peft adapts them. Set it to false."
            )
        if not chosen and not fused:
            raise UserError(
                f"{type(model).__name__} has no linear layer that an adapter can change. Leave "
                "learner.lora out."
            )
        holders = {path.rpartition(".")[0] for path in fused}
        return cls(
            modules=_endings(chosen, [*layers]),
            parameters=tuple(sorted({_within_layer(path) for path in fused})),
            paths=frozenset({*chosen, *holders}),
            transposed=any(isinstance(layers[path], Conv1D) for path in chosen),
        )

    def values(self, model: PreTrainedModel, rank: int) -> int:
        """Number of values in the matrices of an adapter of `rank`."""
        modules = (model.get_submodule(path) for path in self.paths)
        weights = (weight for module in modules for weight in module.parameters(recurse=False))
        shapes = [weight.shape for weight in weights if weight.dim() > 1]
        return sum(rank * shape[:-2].numel() * (shape[-2] + shape[-1]) for shape in shapes)


def _linear_layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield path, module


def _fused_experts(model: PreTrainedModel) -> Iterator[str]:
    """Paths of weights with one matrix per expert."""
    for path, weight in model.named_parameters():
        if weight.dim() == 3 and EXPERTS in path.split("."):
            yield path


def _refusal(model: PreTrainedModel, path: str) -> str | None:
    """Why the linear layer at `path` is not adapted; None if it can be."""
    parts = path.split(".")
    if model.get_submodule(path) is model.get_output_embeddings():
        return "is the output head, of which engines and trainer use the plain weight"
    if ROUTER_NAMES.intersection(parts):
        return "is a router, which stays frozen"
    if EXPERTS in parts:
        return "belongs to an expert: set learner.lora.experts for their fused weights"
    if parts[-1] in _EXPERT_MATRICES and is_moe(model):
        return "has a name that peft reads as that of experts in this model"
    return None


def _named(
    model: PreTrainedModel, name: str, paths: Sequence[str], adaptable: Sequence[str]
) -> list[str]:
    """The paths that end in `name`."""
    found = [path for path in paths if path == name or path.endswith(f".{name}")]
    known = ", ".join(sorted({path.rpartition(".")[2] for path in adaptable}))
    if not found:
        raise UserError(
            f"learner.lora.targets names {name!r}, but {type(model).__name__} has no linear layer "
            f"of that name. Give {ALL_LINEAR!r}, or some of: {known}."
        )
    for path in found:
        reason = _refusal(model, path)
        if reason is not None:
            raise UserError(
                f"learner.lora.targets names {name!r}, but {path} {reason}. Give {ALL_LINEAR!r}, "
                f"or some of: {known}."
            )
    return found


def _endings(chosen: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    """The last names of the `chosen` paths; whole paths where another layer ends in the same."""
    others = {path.rpartition(".")[2] for path in {*paths} - {*chosen}}
    endings = {path.rpartition(".")[2] for path in chosen}
    whole = {path for path in chosen if path.rpartition(".")[2] in others}
    return tuple(sorted((endings - others) | whole))


def _within_layer(path: str) -> str:
    """`path` from its layer's number on: model.layers.3.mlp.experts.w -> mlp.experts.w."""
    parts = path.split(".")
    last = max((place for place, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[last + 1 :])
