"""Saving of checkpoints that Transformers 4 can read as well.

Transformers 5 renamed some fields. Transformers 4, and engines built on it, look for the old names
and silently use defaults if these are missing.

    config.json             rope_parameters    rope_theta, rope_scaling, rope_local_base_freq
                            dtype              torch_dtype
                            num_local_experts  num_experts, and every alias of the family
    tokenizer_config.json   TokenizersBackend  the class of the source, or PreTrainedTokenizerFast
                            extra_special_...  additional_special_tokens

Other fields in the files of the source checkpoint are kept.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file

from steadyrl.policies.loading import no_progress_bars

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"

_NOT_KEPT = frozenset({"dtype", "torch_dtype", "quantization_config", "auto_map", "_name_or_path"})
"""Fields about the source's own weights or code, which do not apply to the saved checkpoint."""

_NEOX = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
_ROTARY_NAMES = {"gpt_neox": _NEOX, "gpt_neox_japanese": _NEOX}
"""Families with different names for rotary parameters."""

_NEW_CLASSES = frozenset({"TokenizersBackend"})
"""Tokenizer classes that do not exist in Transformers 4."""


def save_for_all_readers(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Saves model and tokenizer by `save_pretrained`, and adds the fields of Transformers 4."""
    with no_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kind, written = type(model.config), _read(folder / CONFIG)
    source = _source(str(model.name_or_path), CONFIG)
    kept = [{name: value} for name, value in source.items() if name not in _NOT_KEPT]
    additions = [*_older_names(written, kind.attribute_map), *kept]
    _write(folder / CONFIG, _extended(written, additions, kind))
    source = _source(str(tokenizer.name_or_path), TOKENIZER_CONFIG)
    described = _older_tokenizer(_read(folder / TOKENIZER_CONFIG), source)
    _write(folder / TOKENIZER_CONFIG, described)


def _older_names(written: Mapping[str, Any], aliases: Mapping[str, str]) -> list[dict[str, Any]]:
    """Fields of `written` under their names in Transformers 4."""
    rope = written.get("rope_parameters") or {}
    local = rope.get("sliding_attention") or {}
    rope = rope.get("full_attention") or rope
    elsewhere = {"rope_theta", "partial_rotary_factor"}
    scaling = {name: value for name, value in rope.items() if name not in elsewhere}
    scaled = scaling.get("rope_type", "default") != "default"
    names = _ROTARY_NAMES.get(written["model_type"], {name: name for name in elsewhere})
    return [
        {names[name]: rope[name] for name in sorted(elsewhere & rope.keys())},
        {"rope_scaling": scaling if scaled else None} if rope else {},
        {"rope_local_base_freq": local["rope_theta"]} if "rope_theta" in local else {},
        {"torch_dtype": written["dtype"]} if "dtype" in written else {},
        *({old: written[new]} for old, new in aliases.items() if new in written),
    ]


def _extended(
    written: dict[str, Any], additions: Sequence[Mapping[str, Any]], kind: type[PreTrainedConfig]
) -> dict[str, Any]:
    """`written` with the additions that do not change how this version of Transformers reads it."""
    expected = kind.from_dict(deepcopy(written)).to_dict()
    for names in additions:
        candidate = {**names, **written}
        found = kind.from_dict(deepcopy(candidate)).to_dict()
        if all(found.get(name) == value for name, value in expected.items()):
            written = candidate
    return written


def _older_tokenizer(written: dict[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json with the source's fields and a class known to Transformers 4."""
    content = {**source, **written}
    extra = content.get("extra_special_tokens")
    if isinstance(extra, list):
        del content["extra_special_tokens"]
        content["additional_special_tokens"] = extra
    named = [described.get("tokenizer_class") for described in (source, written)]
    known = [name for name in named if name and name not in _NEW_CLASSES]
    content["tokenizer_class"] = known[0] if known else "PreTrainedTokenizerFast"
    return content


def _source(name: str, file: str) -> dict[str, Any]:
    """Content of `file` in the folder or cached repository `name`; empty if it does not exist."""
    try:
        path = cached_file(name, file, local_files_only=True) if name else None
        return {} if path is None else _read(Path(path))
    except (OSError, ValueError):
        return {}


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(dict(sorted(content.items())), indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
