"""Messages for values that a configuration does not take."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.base.text import nearest_or_all
from steadyrl.base.variants import variants_of


def describe(error: ValidationError, root: type[Settings] | None = None, values: Any = None) -> str:
    """Everything that is wrong, in one line: `values` were validated as settings `root`."""
    return "; ".join(_describe(item, root, values) for item in error.errors())


def _describe(item: ErrorDetails, root: type[Settings] | None, values: Any) -> str:
    names, owners = _path(item["loc"], root, values)
    place, got = ".".join(names), f"got {item['input']!r}"
    field = owners[-1].model_fields.get(names[-1]) if names and owners else None
    match item["type"]:
        case "extra_forbidden" if owners:
            known = [name for name in owners[-1].model_fields if name != "name"]
            return f"{place}: unknown setting, {got}. {nearest_or_all(names[-1], known, _KNOWN)}"
        case "missing":
            return f"{place}: required{_remedy(place, field)}"
        case "union_tag_invalid":
            given, kinds = item["ctx"]["tag"], item["ctx"]["expected_tags"].replace("'", "")
            choice = nearest_or_all(given, kinds.split(", "), "Known names")
            return f"{place}.name: unknown name, got {given!r}. {choice}"
        case "union_tag_not_found":
            return f"{place}.name: required. It chooses which settings the block has"
        case "variant":
            return f"{place}: {item['msg']}"
        case "string_pattern_mismatch" if field is not None and field.description:
            return f"{place}: {got}, expected: {_sentence(field)}"
        case "value_error":
            message = item["msg"].removeprefix("Value error, ")
            return f"{place}: {message}" if place else message
        case _:
            return f"{place}: {item['msg']}, {got}" if place else f"{item['msg']}, {got}"


_KNOWN = "Known here"


def _remedy(place: str, field: FieldInfo | None) -> str:
    """What a missing value is for, and where to set it."""
    if field is None:
        return ""
    meaning = f" ({_sentence(field)})" if field.description else ""
    blocks = any(_settings_types(field.annotation))
    name = f"{place}.name" if blocks else place
    return f"{meaning}. Set {name} in the file, or --{name.replace('_', '-')}"


def _sentence(field: FieldInfo) -> str:
    """The description of a field on one line, without its full stop."""
    return " ".join((field.description or "").split()).removesuffix(".")


def _path(
    loc: tuple[int | str, ...], root: type[Settings] | None, values: Any
) -> tuple[list[str], list[type[Settings]]]:
    """The names of a location, and the settings types that hold them as far as they are known.

    Pydantic puts the name of a union's member into the location; no reader has written it.
    """
    names: list[str] = []
    owners: list[type[Settings]] = []
    field: FieldInfo | None = None
    kinds = [] if root is None else [root]
    for part in map(str, loc):
        if names and part in {_name(kind) for kind in kinds}:
            kinds = [kind for kind in kinds if _name(kind) == part]
            continue
        names.append(part)
        if isinstance(values, list | tuple) and part.isdigit():  # an item of the field before
            values = values[int(part)] if int(part) < len(values) else None
        else:
            owners = kinds[:1]
            values = values.get(part) if isinstance(values, Mapping) else None
            field = owners[0].model_fields.get(part) if owners else None
        kinds = [] if field is None else _kinds(field, values)
    return names, owners


def _kinds(field: FieldInfo, values: Any) -> list[type[Settings]]:
    """The types that settings in `field` may have, which is one where a name has chosen it."""
    variants = variants_of(field)
    if variants is None:
        return list(_settings_types(field.annotation))
    name = values.get("name") if isinstance(values, Mapping) else values
    if not isinstance(name, str):
        default = field.default
        return [type(default) if isinstance(default, Settings) else variants.base]
    try:
        return [variants.find(name)]
    except UserError:
        return []


def _settings_types(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _settings_types(part)


def _name(kind: type[Settings]) -> str | None:
    """The name by which a union tells its members."""
    field: Mapping[str, FieldInfo] = kind.model_fields
    return str(field["name"].default) if "name" in field else None
