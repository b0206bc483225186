"""Texts of a run as they may be published: without local paths and credentials."""

import re
from pathlib import Path
from typing import Any

import yaml

_ABSOLUTE = re.compile(r"(?<![\w/:.~])~?(?:/[\w.@+-]+)+/([\w.@+-]+)")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def public_config(text: str) -> str:
    """A configuration in YAML, with local paths and credentials in addresses taken out."""
    shortened = _shortened(yaml.safe_load(text))
    return yaml.safe_dump(shortened, sort_keys=False, allow_unicode=True)


def public_text(text: str) -> str:
    """`text` in which absolute paths are their last component and addresses hold no credentials."""
    path = Path(text)
    if path.is_absolute() and len(path.parts) > 2 and "\n" not in text:
        return path.name  # its folders may have spaces
    return _CREDENTIALS.sub("", _ABSOLUTE.sub(r"\1", text))


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    return public_text(value) if isinstance(value, str) else value
