"""Messages for values that a configuration does not take."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from steadyrl.base.errors import UserError
from steadyrl.base.setting_texts import meaning, settings_in
from steadyrl.base.settings import Settings
from steadyrl.base.text import nearest_or_all


def describe(error: ValidationError, root: type[Settings] | None = None, values: Any = None) -> str:
    """Everything that is wrong, in one line: `values` were validated as settings `root`."""
    items = error.errors()
    broken = {item["loc"][:length] for item in items for length in range(len(item["loc"]))}
    # A list is too short also for want of those of its items that are wrong themselves.
    own = [item for item in items if item["type"] != "too_short" or item["loc"] not in broken]
    return "; ".join(_describe(item, root, values).removesuffix(".") for item in own)


def _describe(item: ErrorDetails, root: type[Settings] | None, values: Any) -> str:
    place, got = ".".join(map(str, item["loc"])), f"got {item['input']!r}"
    owner = _owner(item["loc"], root, values)
    name = str(item["loc"][-1]) if item["loc"] else ""
    field = None if owner is None else owner.model_fields.get(name)
    match item["type"]:
        case "extra_forbidden" if owner is not None:
            known = [name for name in owner.model_fields if name != "name"]
            return f"{place}: unknown setting, {got}. {nearest_or_all(name, known, 'Known here')}"
        case "missing":
            return f"{place}: required{_remedy(place, field)}"
        case "variant":
            return f"{place}: {item['msg']}"
        case "string_pattern_mismatch" if field is not None and field.description:
            return f"{place}: {got}, expected: {meaning(field).removesuffix('.')}"
        case "value_error":
            message = item["msg"].removeprefix("Value error, ")
            return f"{place}: {message}" if place else message
        case _:
            return f"{place}: {item['msg']}, {got}" if place else f"{item['msg']}, {got}"


def _remedy(place: str, field: FieldInfo | None) -> str:
    """Purpose of a missing value, and where to set it."""
    if field is None:
        return ""
    text = f" ({meaning(field).removesuffix('.')})" if field.description else ""
    return f"{text}. Set {place} in the file, or --{place.replace('_', '-')}"


def _owner(
    loc: tuple[int | str, ...], root: type[Settings] | None, values: Any
) -> type[Settings] | None:
    """The settings that hold the last name of a location, as far as they are known."""
    owner, field = root, None
    for part in loc[:-1]:
        if isinstance(part, int):  # an item of the list in the field before
            values = values[part] if isinstance(values, list | tuple) else None
        else:
            values = values.get(part) if isinstance(values, Mapping) else None
            field = None if owner is None else owner.model_fields.get(part)
        try:
            owner = None if field is None else settings_in(field, values)
        except UserError:
            return None
    return owner
