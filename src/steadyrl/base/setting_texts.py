"""Texts that document fields of settings: accepted values, default and description."""

import re
import types
from collections.abc import Iterator
from enum import Enum
from math import inf
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from steadyrl.base.settings import Settings
from steadyrl.base.variants import name_of, variants_of

BOUNDS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "min_length": "length at least",
}
"""Words for pydantic's constraints."""

NAMES = {
    "str": "text",
    "float": "number",
    "int": "whole number",
    "Path": "path",
    "Any": "any value",
    "dict": "{name: value, ...}",
    "tuple": "list",
}
"""Words for Python types."""


def atoms(annotation: Any) -> Iterator[Any]:
    """The members of the union `annotation`, and the values of its literals and enums."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from atoms(parts[0])
    elif origin in (Union, types.UnionType):
        for part in parts:
            yield from atoms(part)
    elif origin is Literal:
        yield from parts
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (item.value for item in annotation)
    else:
        yield None if annotation is types.NoneType else annotation


def is_list(field: FieldInfo) -> bool:
    """Whether `field` holds a list or tuple."""
    return any((get_origin(atom) or atom) in (tuple, list) for atom in atoms(field.annotation))


def settings_in(field: FieldInfo, value: Any = None) -> type[Settings] | None:
    """The settings class of `field` or of the items of its list; None: not a nested block.

    Args:
        value: Value of the field, as a mapping or a name. Its name selects among variants.

    Raises:
        UserError: no variant has this name.
    """
    name = value.get("name") if isinstance(value, dict) else value
    variants = variants_of(field)
    if variants is not None and isinstance(name, str):
        return variants.find(name)
    if isinstance(field.default, Settings):
        return type(field.default)
    if variants is not None:
        return variants.base
    kinds = [part for part in atoms(field.annotation) if isinstance(part, type)]
    return next((kind for kind in kinds if issubclass(kind, Settings)), None)


def values_text(field: FieldInfo) -> str:
    """The values accepted by a scalar field, for example `whole number, at least 1, none`."""
    variants = variants_of(field)
    if variants is not None:
        return f"list of {', '.join([*variants.names(), *variants.custom_names()])}"
    kinds = list(atoms(field.annotation))
    bounds = [
        f"{words} {getattr(item, bound):g}"
        for item in field.metadata
        for bound, words in BOUNDS.items()
        if isinstance(getattr(item, bound, None), int | float)
    ]
    named = [_atom_text(kind) for kind in kinds if kind is not None]
    return ", ".join([*named, *bounds, *(["none"] if None in kinds else [])])


def _atom_text(atom: Any) -> str:
    if atom is None:
        return "none"
    if atom is bool:
        return "true, false"
    origin = get_origin(atom) or atom
    if not isinstance(origin, type):
        return NAMES["Any"] if atom is Any else str(atom)
    name = NAMES.get(origin.__name__, origin.__name__)
    parts = [part for part in get_args(atom) if part is not Ellipsis]
    if not parts or origin is dict:
        return name
    return f"{name} of {', '.join(_atom_text(each) for part in parts for each in atoms(part))}"


def default_text(value: Any) -> str:
    """A short form of a default as the command line takes it; `required` if there is none."""
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return f"{'-' if value < 0 else ''}.inf"
    if isinstance(value, Settings):
        own = value.model_dump(mode="json", exclude_defaults=True)
        return default_text({"name": name_of(type(value))} | own)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_nested, value))}]"
    if isinstance(value, dict) and value:
        if value.keys() == {"name"}:  # a variant with its own defaults
            return default_text(value["name"])
        return f"{{{', '.join(f'{key}: {_nested(each)}' for key, each in value.items())}}}"
    return str(value) if value not in ("", {}) else "empty"


def _nested(value: Any) -> str:
    """The form of a value within a list or a block, in quotes where YAML wants them."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return yaml.safe_dump([value], default_flow_style=True, width=inf)[1:-2]
    return default_text(value)


def meaning(field: FieldInfo) -> str:
    """The description of a field on one line, with values as the command line takes them."""
    text = " ".join((field.description or "").split())
    return re.sub(r"\b(None|True|False)\b(?! of\b)", lambda word: word[0].lower(), text)
