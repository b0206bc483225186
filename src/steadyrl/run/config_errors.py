"""Messages for values that a configuration does not take."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from steadyrl.base.settings import Settings


def describe(error: ValidationError, root: type[Settings] | None = None) -> str:
    """Everything that is wrong, in one line. `root` is the type that was validated."""
    return "; ".join(_describe(item, root) for item in error.errors())


def _describe(item: ErrorDetails, root: type[Settings] | None) -> str:
    names, owners = _path(item["loc"], root)
    place, got = ".".join(names), f"got {item['input']!r}"
    field = owners[-1].model_fields.get(names[-1]) if names and owners else None
    match item["type"]:
        case "extra_forbidden" if owners:
            known = [name for name in owners[-1].model_fields if name != "name"]
            return f"{place}: unknown setting, {got}. {_choice(names[-1], known, 'Known here')}"
        case "missing":
            return f"{place}: required{_remedy(place, field)}"
        case "union_tag_invalid":
            given, kinds = item["ctx"]["tag"], item["ctx"]["expected_tags"].replace("'", "")
            choice = _choice(given, kinds.split(", "), "Known names")
            return f"{place}.name: unknown name, got {given!r}. {choice}"
        case "union_tag_not_found":
            return f"{place}.name: required. It chooses which settings the block has"
        case "string_pattern_mismatch" if field is not None and field.description:
            return f"{place}: {got}, expected: {_sentence(field)}"
        case "value_error":
            message = item["msg"].removeprefix("Value error, ")
            return f"{place}: {message}" if place else message
        case _:
            return f"{place}: {item['msg']}, {got}" if place else f"{item['msg']}, {got}"


def _choice(given: str, known: list[str], heading: str) -> str:
    """The closest of the known names, or all of them."""
    close = get_close_matches(given, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"{heading}: {', '.join(known)}"


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
    loc: tuple[int | str, ...], root: type[Settings] | None
) -> tuple[list[str], list[type[Settings]]]:
    """The names of a location, and the settings types that hold them as far as they are known.

    Pydantic puts the name of a union's member into the location; no reader has written it.
    """
    names: list[str] = []
    owners: list[type[Settings]] = []
    kinds = [] if root is None else [root]
    for part in map(str, loc):
        if names and part in {_name(kind) for kind in kinds}:
            kinds = [kind for kind in kinds if _name(kind) == part]
            continue
        names.append(part)
        owners = kinds[:1]
        field = owners[0].model_fields.get(part) if owners else None
        kinds = [] if field is None else list(_settings_types(field.annotation))
    return names, owners


def _settings_types(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _settings_types(part)


def _name(kind: type[Settings]) -> str | None:
    """The name by which a union tells its members."""
    field: Mapping[str, FieldInfo] = kind.model_fields
    return str(field["name"].default) if "name" in field else None
