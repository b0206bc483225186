"""Messages for values that a configuration does not take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from steadyrl.base.errors import UserError, safe_repr
from steadyrl.base.setting_texts import atoms, meaning, settings_in, values_text
from steadyrl.base.settings import Settings
from steadyrl.base.text import nearest_or_all

Location = tuple[int | str, ...]

ITEMS = {"int": "whole number", "float": "number", "string": "text", "bool": "true or false"}
"""Words for items of lists, by the beginning of pydantic's type of error."""

UNNAMED = ("value_error", "finite_number")
"""Types of errors about which a field's accepted values say less than pydantic does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """A setting in which something is wrong."""

    location: Location

    field: FieldInfo | None = None
    """None: there is no such setting, or the settings that hold it are unknown."""

    owner: type[Settings] | None = None
    """The settings that hold it."""

    @property
    def place(self) -> str:
        return ".".join(map(str, self.location))


def describe(error: ValidationError, root: type[Settings] | None = None, values: Any = None) -> str:
    """Everything that is wrong, in one line: `values` were validated as settings `root`.

    A setting is named once, whatever alternatives pydantic has tried for it, and not at all if
    something within it is wrong.
    """
    found: dict[Location, tuple[_Setting, list[ErrorDetails]]] = {}
    for item in error.errors():
        setting = _locate(item["loc"], root, values)
        found.setdefault(setting.location, (setting, []))[1].append(item)
    inner = [
        pair
        for location, pair in found.items()
        if not any(other != location and other[: len(location)] == location for other in found)
    ]
    return "; ".join(_describe(setting, items).removesuffix(".") for setting, items in inner)


def _describe(setting: _Setting, items: Sequence[ErrorDetails]) -> str:
    item, place, field = items[0], setting.place, setting.field
    got = f"got {safe_repr(item['input'])}"
    name = str(setting.location[-1]) if setting.location else ""
    match item["type"]:
        case "extra_forbidden" if setting.owner is not None:
            known = [name for name in setting.owner.model_fields if name != "name"]
            return f"{place}: unknown setting, {got}. {nearest_or_all(name, known, 'Known here')}"
        case "missing" if not name.isdigit():
            return f"{place}: required{_remedy(place, field)}"
        case "variant":
            return f"{place}: {item['msg']}"
        case "string_pattern_mismatch" if field is not None and field.description:
            return f"{place}: {got}, expected: {meaning(field).removesuffix('.')}"
        case "value_error":
            message = item["msg"].removeprefix("Value error, ")
            return f"{place}: {message}" if place else message
    expected = "" if field is None else _expected(setting, field, item)
    if expected:
        return f"{place}: {got}, expected: {expected}{_nearest(item['input'], field)}"
    return f"{place}: {item['msg']}, {got}" if place else f"{item['msg']}, {got}"


def _expected(setting: _Setting, field: FieldInfo, item: ErrorDetails) -> str:
    """The values that a setting accepts; empty if pydantic's own words say more."""
    if item["type"] in UNNAMED:
        return ""
    if isinstance(setting.location[-1], int) and item["type"] != "missing":
        return ITEMS.get(item["type"].partition("_")[0], "")
    if settings_in(field) is not None:
        return "names and values"
    return values_text(field)


def _nearest(given: Any, field: FieldInfo | None) -> str:
    known = [] if field is None else [v for v in atoms(field.annotation) if isinstance(v, str)]
    close = get_close_matches(given, known, n=1) if isinstance(given, str) else []
    return f". Did you mean {close[0]!r}?" if close else ""


def _remedy(place: str, field: FieldInfo | None) -> str:
    """Purpose of a missing value, and where to set it."""
    if field is None:
        return ""
    text = f" ({meaning(field).removesuffix('.')})" if field.description else ""
    return f"{text}. Set {place} in the file, or --{place.replace('_', '-')}"


def _locate(location: Location, root: type[Settings] | None, values: Any) -> _Setting:
    """The setting at a location of pydantic, without the alternatives of unions in it."""
    owner, holder, field = root, None, None
    for number, part in enumerate(location):
        if isinstance(part, int):  # an item of the list in the field before
            items = values if isinstance(values, list | tuple) else ()
            values = items[part] if part < len(items) else None  # what is missing has no value
        elif owner is None and field is not None:
            return _Setting(location=location[:number], field=field, owner=holder)
        elif owner is None or part not in owner.model_fields:
            return _Setting(location=location, owner=owner)
        else:
            values = values.get(part) if isinstance(values, Mapping) else None
            holder, field = owner, owner.model_fields[part]
        try:
            owner = None if field is None else settings_in(field, values)
        except UserError:
            return _Setting(location=location)
    return _Setting(location=location, field=field, owner=holder)
