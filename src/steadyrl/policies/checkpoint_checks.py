"""Checks that a model was loaded completely from its checkpoint, and that its tokenizer fits."""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.policies.checkpoint_folder import quantized_error

_AGAIN = "Download or save it again, with all of its files."


def check_weights(model: PreTrainedModel, report: Mapping[str, Any], path: str) -> None:
    """Checks that all weights of `model` come from the checkpoint, and that all of them were used.

    Weights of parts that the model does not have, such as a vision tower, only cause a warning. If
    the configuration ties head and embedding but the checkpoint holds different weights for them,
    the configuration is corrected, so that copies of the model are not tied either.

    Args:
        report: Value of `output_loading_info` from `from_pretrained`.

    Raises:
        UserError: weights are missing, unused, quantized, non-finite, constant or misshapen.
    """
    if getattr(model, "hf_quantizer", None) is not None or not _is_plain(model):
        raise quantized_error(path, _method(model))
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if report["mismatched_keys"]:
        name, saved, expected = min(report["mismatched_keys"])
        raise UserError(
            f"The checkpoint {path!r} does not fit its config.json: {name} has the shape "
            f"{tuple(saved)}, but {type(model).__name__} of that configuration has "
            f"{tuple(expected)}{_more(report['mismatched_keys'])}. Correct config.json, or give "
            "the weights that belong to it."
        )
    if missing:
        raise UserError(
            f"The checkpoint {path!r} is incomplete: {len(missing)} of the "
            f"{len(model.state_dict())} weights of {type(model).__name__} are missing, for "
            f"example {missing[0]}, and would be random. {_remedy(model, missing, unexpected)}"
        )
    _check_unused(model, unexpected, path)
    _untie_what_differs(model)
    _check_values(model, path)


def check_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that embedding and head have a row for every token id.

    Raises:
        UserError: the tokenizer or the generation config has a token id without a row.
    """
    layers = (("embedding", model.get_input_embeddings()), ("head", model.get_output_embeddings()))
    rows = {name: len(layer.weight) for name, layer in layers if hasattr(layer, "weight")}
    if not rows:
        return
    part, count = min(rows.items(), key=lambda item: item[1])
    configured = model.generation_config.eos_token_id if model.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    ends: list[Any] = [end for end in listed if end is not None]
    odd = [end for end in ends if type(end) is not int]
    if odd:
        raise UserError(
            f"generation_config.json has the end token {odd[0]!r}, which is not a token id. "
            "Correct eos_token_id there."
        )
    beyond = [end for end in ends if not 0 <= end < count]
    if beyond:
        raise UserError(
            f"generation_config.json has the end token {beyond[0]}, but the model's {part} has "
            f"{count} rows: it could never be sampled. Correct eos_token_id there."
        )
    token, number = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if number >= count:
        raise UserError(
            f"The tokenizer gives {token!r} the id {number}, but the model's {part} has {count} "
            "rows. Use the tokenizer that belongs to the checkpoint, or enlarge the model with "
            f"resize_token_embeddings({number + 1}) and save it."
        )


def _is_plain(model: PreTrainedModel) -> bool:
    """Whether every weight is a floating-point tensor with at least 16 bits per element."""
    kinds = {weight.dtype for weight in model.parameters()}
    return all(kind.is_floating_point and kind.itemsize > 1 for kind in kinds)


def _method(model: PreTrainedModel) -> str | None:
    settings = getattr(model.config, "quantization_config", None)
    method = getattr(settings, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


def _remedy(model: PreTrainedModel, missing: list[str], unexpected: list[str]) -> str:
    """Remedy for missing weights."""
    for name in unexpected:
        wrapper, _, inner = name.partition(".")
        while inner:
            if inner in missing:
                return (
                    f"Its names begin with {wrapper + '.'!r}, the prefix of a wrapper: remove it "
                    "from every name, and save it again."
                )
            step, _, inner = inner.partition(".")
            wrapper = f"{wrapper}.{step}"
    if any("lora_" in name for name in unexpected):
        return "It holds adapters: merge them with peft's merge_and_unload, and save the result."
    head = model.get_output_embeddings()
    names = {
        name for name, weight in model.named_parameters() if weight is getattr(head, "weight", 0)
    }
    if names.issuperset(missing):
        return (
            "If its head is its embedding, set tie_word_embeddings to true in its config.json; a "
            "base model without a head cannot be trained here."
        )
    if unexpected:
        return (
            f"It holds others instead, for example {unexpected[0]}: check that config.json "
            "belongs to these weights."
        )
    return _AGAIN


def _check_unused(model: PreTrainedModel, unexpected: list[str], path: str) -> None:
    """Rejects unused weights of modules that the model has; warns about other unused weights."""
    parts = {_pattern(name) for name, _ in model.named_modules()} - {""}
    extra = getattr(model.config.get_text_config(), "num_nextn_predict_layers", None) or 0
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    predict_ahead = {str(layers + number) for number in range(extra)}
    others = [name for name in unexpected if not predict_ahead.intersection(name.split("."))]
    known = [name for name in others if _pattern(name.rpartition(".")[0]) in parts]
    if known:
        raise UserError(
            f"The checkpoint {path!r} holds {len(known)} weights that {type(model).__name__} with "
            f"its config.json does not use, for example {known[0]}. Correct config.json, for "
            "example the number of layers or biases."
        )
    if others:
        warnings.warn(
            f"The checkpoint {path!r} holds {len(others)} weights that {type(model).__name__} "
            f"does not use, for example {others[0]}. They are neither trained nor saved.",
            stacklevel=4,
        )


def _pattern(name: str) -> str:
    """A module's name with numbers replaced by `*`, so that it matches all layers."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def _untie_what_differs(model: PreTrainedModel) -> None:
    """Clears `tie_word_embeddings` if the loaded head and embedding differ."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    weights = [getattr(layer, "weight", None) for layer in (head, embedding)]
    if None in weights or weights[0] is weights[1]:
        return
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False


@torch.no_grad()
def _check_values(model: PreTrainedModel, path: str) -> None:
    """Rejects non-finite weights and constant matrices."""
    constant, matrices = [], 0
    for name, weight in model.named_parameters():
        if weight.numel() < 2:
            continue
        low, high = weight.aminmax()
        if not bool(low.isfinite() & high.isfinite()):
            raise UserError(
                f"The checkpoint {path!r} has a non-finite weight in {weight.dtype}: {name}. "
                f"{_AGAIN}"
            )
        if weight.dim() > 1:
            matrices += 1
            constant += [name] if bool(low == high) else []
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    vital = {id(layer.weight) for layer in ends if isinstance(layer, nn.Module)}
    broken = [n for n, weight in model.named_parameters() if id(weight) in vital and n in constant]
    if broken or len(constant) > matrices / 2:
        raise UserError(
            f"The checkpoint {path!r} is incomplete: {(broken or constant)[0]} holds one number "
            f"everywhere{_more(constant)}. {_AGAIN}"
        )


def _more(names: Iterable[Any]) -> str:
    count = len(list(names)) - 1
    return f", and {count} more do" if count > 0 else ""
