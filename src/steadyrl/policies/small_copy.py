"""Small float32 copies of models with random weights, on which probes test a model family.

A copy has the fewest leading layers that include every kind of layer, windows of 4 tokens, a small
vocabulary, few heads and narrow experts. So probes take milliseconds, detect effects of windows
that are longer than a probe, and are not affected by low precision. If the sizes of a family cannot
be reduced that far, its copy is larger; if that fails too, there is no copy.
"""

import pickle
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from steadyrl.policies.compat import model_of

WINDOW = 4
VOCABULARY = 64
NARROW = 32
HIDDEN = 64
EXPERTS = 16
EXPERTS_PER_TOKEN = 2
MOST_WEIGHTS = 1 << 26
"""Maximum number of weights of a copy."""

EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOICE_COUNTS = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_k",
    "top_k_experts",
)
FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""Exceptions that models raise for unexpected sizes, inputs or masks."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Description from which a small copy is built. Equal for models that compute the same way."""

    family: type[PreTrainedModel]

    config: bytes
    """Pickled configuration of the model."""

    kinds: tuple[str, ...]
    """Kind of each layer. A copy must have all kinds."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Architecture":
        """The architecture of `model`, independent of its weights."""
        return cls(type(model), pickle.dumps(model.config), tuple(map(_kind, _layers(model))))

    def small_copy(self) -> PreTrainedModel | None:
        """A small, deterministic float32 model on the CPU; None if every size fails."""
        depth = max((self.kinds.index(kind) + 1 for kind in set(self.kinds)), default=0)
        for effort in (4, 3, 2, 1, 0):
            config = pickle.loads(self.config)
            try:
                _shrink(config, depth=max(2, depth), layers=len(self.kinds), effort=effort)
            except (*FAILURES, StrictDataclassError):  # the configuration rejects the sizes
                continue
            model = self._built(config)
            if model is not None:
                return model
        return None

    def _built(self, config: PreTrainedConfig) -> PreTrainedModel | None:
        try:
            with torch.device("meta"):
                weights = model_of(self.family, deepcopy(config), torch.float32).parameters()
            if sum(weight.numel() for weight in weights) > MOST_WEIGHTS:
                return None
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = model_of(self.family, config, torch.float32).eval()
                _spread_weights(model)
            if {*map(_kind, _layers(model))} != {*self.kinds}:
                return None
            with torch.no_grad():
                tokens = torch.arange(12).view(2, 6)
                logits = model(input_ids=tokens, use_cache=False).logits
        except (*FAILURES, StrictDataclassError):
            return None
        return model if bool(logits.isfinite().all()) else None


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    """Decoder layers of `model`: its first module list with as many entries as it has layers."""
    config = model.config.get_text_config()
    depths = {getattr(config, name, None) for name in ("num_hidden_layers", "num_layers")}
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    found = next((module for module in lists if len(module) in depths), None)
    return [] if found is None else list(found)


def _kind(layer: nn.Module) -> str:
    """Classes and flags within a layer. Equal for layers that compute the same way."""
    parts = set()
    for name, module in layer.named_modules():
        switches = sorted(
            f"{key}={value}"
            for key, value in vars(module).items()
            if not key.startswith("_")
            and key not in ("training", "gradient_checkpointing")
            and (isinstance(value, bool | str) or key.startswith(("is_", "use_")))
        )
        windows = sorted(
            f"{key}={value is None}" for key, value in vars(module).items() if "window" in key
        )
        parts.add(f"{re.sub('[0-9]+', '*', name)} {type(module).__name__} {switches} {windows}")
    return "\n".join(sorted(parts))


def _shrink(config: PreTrainedConfig, *, depth: int, layers: int, effort: int) -> None:
    """Reduces the sizes in `config`.

    Args:
        depth: Number of layers to keep, of `layers` in total.
        effort: 0 reduces depth and windows; 1 also MLP widths and the vocabulary; 2 also heads and
            the hidden size; 3 also the number of experts; 4 reduces the hidden size further.
    """
    for part in (config, *_parts(config)):
        _shrink_depth(part, min(depth, layers), layers)
        _shrink_windows(part)
        if effort >= 1:
            _narrow(part)
        if effort >= 2:
            _shrink_heads(part, narrow=effort >= 4)
        if effort >= 3:
            _limit(part, EXPERT_COUNTS, EXPERTS)
            _limit(part, CHOICE_COUNTS, EXPERTS_PER_TOKEN)


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig):
            yield value
            yield from _parts(value)


def _shrink_depth(config: PreTrainedConfig, depth: int, layers: int) -> None:
    if not layers or getattr(config, "num_hidden_layers", None) is None:
        return
    whole = config.num_hidden_layers
    per_layer = whole // layers if whole % layers == 0 else 1  # LongCat has two of each
    kept = min(whole, depth * per_layer)
    for name, value in _own(config):
        if isinstance(value, list | tuple) and len(value) == whole:
            setattr(config, name, value[:kept])
        elif isinstance(value, list | tuple) and len(value) == layers:
            setattr(config, name, value[:depth])
        elif isinstance(value, str) and "pattern" in name and len(value) == whole:
            setattr(config, name, value[:kept])
    shared = getattr(config, "num_kv_shared_layers", None)
    if shared:
        config.num_kv_shared_layers = max(0, kept - (whole - shared))
    if isinstance(getattr(config, "num_layers", None), int) and config.num_layers == layers:
        config.num_layers = depth
    config.num_hidden_layers = kept


def _shrink_windows(config: PreTrainedConfig) -> None:
    for name, value in _own(config):
        windowed = "window" in name and "layer" not in name
        if windowed or name in ("attention_chunk_size", "index_topk"):
            _at_most(config, name, value, WINDOW)


def _narrow(config: PreTrainedConfig) -> None:
    for name, value in _own(config):
        if "vocab_size" in name:
            _at_most(config, name, value, VOCABULARY)
        elif re.search("intermediate|ffn|n_inner|mlp_dim", name):
            _at_most(config, name, value, NARROW)
        elif re.fullmatch("(pad|bos|eos|sep|decoder_start)_token_id", name):
            many = isinstance(value, list)
            ids = [
                token % VOCABULARY for token in (value if many else [value]) if token is not None
            ]
            setattr(config, name, ids if many else ids[0] if ids else None)


def _shrink_heads(config: PreTrainedConfig, *, narrow: bool) -> None:
    """Reduces to at most four heads of unchanged width, and the hidden size accordingly.

    Args:
        narrow: Whether to reduce the hidden size further, if the head width does not depend on it.
    """
    heads, shared = _few_heads(config, "num_attention_heads", "num_key_value_heads")
    _few_heads(config, "linear_num_value_heads", "linear_num_key_heads")
    _few_heads(config, "linear_num_heads", "linear_num_heads")
    hidden = _size(config, "hidden_size")
    if not heads or not hidden:
        return
    width = _size(config, "head_dim")
    size = HIDDEN if narrow and width else heads * (width or hidden // shared)
    config.hidden_size = min(hidden, size)


def _few_heads(config: PreTrainedConfig, queries: str, keys: str) -> tuple[int | None, int]:
    """Reduces both numbers; returns the new and the old number of query heads."""
    many, shared = _size(config, queries), _size(config, keys)
    if not many or many % (shared or many):
        return None, 0
    few = min(shared or many, 2)
    heads = few * min(many // (shared or many), 2)
    setattr(config, queries, heads)
    if shared:
        setattr(config, keys, few)
    return heads, many


def _limit(config: PreTrainedConfig, names: tuple[str, ...], most: int) -> None:
    for name in names:
        size = _size(config, name)
        if size is not None and size > most:
            setattr(config, name, most)


def _size(config: PreTrainedConfig, name: str) -> int | None:
    """Value of an integer field that is the same for all layers; None if there is none."""
    try:
        value = getattr(config, name, None)
    except RuntimeError:  # Transformers raises this for a field that differs between layers
        return None
    return value if isinstance(value, int) else None


def _at_most(config: PreTrainedConfig, name: str, value: Any, most: int) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value > most:
        setattr(config, name, most)
    elif isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        setattr(config, name, [min(item, most) for item in value])


def _own(config: PreTrainedConfig) -> list[tuple[str, Any]]:
    """Fields of `config`, without private fields of Transformers."""
    return [(name, value) for name, value in vars(config).items() if not name.startswith("_")]


@torch.no_grad()
def _spread_weights(model: PreTrainedModel) -> None:
    """Draws weights large enough that outputs differ between tokens and between layers."""
    seen: set[int] = set()
    for weight in model.parameters():
        if not weight.is_floating_point() or id(weight) in seen:
            continue
        seen.add(id(weight))
        if weight.dim() > 1:
            fans = weight.shape[-1] + weight.shape[-2]
            weight.copy_(torch.randn_like(weight) * (2 / fans) ** 0.5)
        else:
            weight.add_(0.1 * torch.randn_like(weight))
