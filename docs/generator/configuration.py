"""The page of the configuration: every field of every settings class that a run can have."""

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Annotated, Any, get_args, get_origin

from docs.generator.markdown import page, paragraph, row, slug
from pydantic.fields import FieldInfo

from steadyrl.base.setting_texts import atoms, default_text, meaning, values_text
from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variants, variants_of
from steadyrl.run.config import RunConfig

ABOUT = """
Every setting of a run, as its YAML file has it (`steadyrl recipes demo > my-config.yaml`) and as
the command line takes it: `engine.numerics` is `--engine.numerics`. A block with variants is chosen
by its `name`, as in `--algorithm.objective gspo`; what is not given has the default of the chosen
variant.
"""

CUSTOM = "module:Class or module:function"
"""In the place of a name, for user code that has no settings class of its own."""


def configuration_page() -> str:
    """A section for each settings class, in the order in which they are reached."""
    found = reached(RunConfig)
    lines = ["# Configuration", "", paragraph(ABOUT)]
    for kind, places in found.items():
        lines += _section(kind, places, found)
    return page(lines)


def reached(root: type[Settings]) -> dict[type[Settings], list[str]]:
    """Every settings class below `root`, with the places at which it can stand."""
    found: dict[type[Settings], list[str]] = {root: [""]}
    waiting = [root]
    while waiting:
        kind = waiting.pop(0)
        for name, field in kind.model_fields.items():
            below = kinds_of(field)
            for other in below:
                place = ".".join([p for p in (found[kind][0], name) if p])
                if other not in found:
                    waiting.append(other)
                if place not in found.setdefault(other, []):
                    found[other].append(place)
    return found


def kinds_of(field: FieldInfo) -> list[type[Settings]]:
    """The settings classes that a field can hold."""
    return list(dict.fromkeys(_kinds(field.annotation, field.metadata)))


def _kinds(annotation: Any, metadata: Any = ()) -> Iterator[type[Settings]]:
    variants = [item for item in metadata if isinstance(item, Variants)]
    if variants:
        for item in variants:
            yield from item.built_in.values()
            yield from [item.wrapper] if item.wrapper else []
    elif isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    elif get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _kinds(inner, more)
    else:
        for part in get_args(annotation):
            yield from _kinds(part)


def _custom_names(field: FieldInfo, below: Iterable[type[Settings]]) -> list[str]:
    """Names of user code that the field takes, unless one of the classes `below` is for them."""
    variants = variants_of(field)
    if variants is None or variants.wrapper in below:
        return []
    return [f"`{name}`" for name in variants.custom_names()]


def _section(
    kind: type[Settings], places: list[str], found: dict[type[Settings], list[str]]
) -> list[str]:
    lines = ["", f"## {title_of(kind, places)}", ""]
    lines += [paragraph((cleandoc(kind.__doc__ or "")).split("\n\n")[0]), ""]
    if len(places) > 1:
        lines += [paragraph(f"Also at {', '.join(f'`{place}`' for place in places[1:])}."), ""]
    lines += [row(["field", "type", "default", "meaning"]), row(["---"] * 4)]
    for name, field in kind.model_fields.items():
        if name == "name" and not field.is_required():
            continue  # it stands in the heading
        below = {other: found[other] for other in kinds_of(field)}
        lines.append(
            row([f"`{name}`", type_of(field, below), default_of(field), _text(field, below)])
        )
    return lines


def title_of(kind: type[Settings], places: list[str]) -> str:
    """The heading of a class: its place, and its name if there are variants of it."""
    name = name_of(kind)
    return " ".join([part for part in (places[0] or "Run", name and f"`{name}`") if part])


def name_of(kind: type[Settings]) -> str:
    """The name by which a variant is chosen; empty if it is none."""
    field = kind.model_fields.get("name")
    if field is None:
        return ""
    return CUSTOM if field.is_required() else str(field.default)


def type_of(field: FieldInfo, below: dict[type[Settings], list[str]]) -> str:
    """The values that a field takes."""
    if not below:
        return values_text(field)
    links = [
        f"[{name_of(kind) or 'block'}](#{slug(title_of(kind, places))})"
        for kind, places in below.items()
    ]
    own = _custom_names(field, below)
    return ", ".join([*links, *own, *(["none"] if None in atoms(field.annotation) else [])])


def default_of(field: FieldInfo) -> str:
    """The default, in short."""
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    if isinstance(value, Settings):
        changed = value.model_dump(mode="json", exclude_defaults=True)
        changed.pop("name", None)
        given = ", ".join(f"{name}: {item}" for name, item in changed.items())
        parts = (name_of(type(value)), f"`{given}`" if given else "")
        return " ".join([part for part in parts if part])
    if isinstance(value, tuple | list) and value:
        return ", ".join(map(_shown, value))
    text = default_text(value)
    return text if text in ("required", "none", "empty") else f"`{text}`"


def _text(field: FieldInfo, below: dict[type[Settings], list[str]]) -> str:
    text = meaning(field)
    if not text and len(below) == 1:
        text = (next(iter(below)).__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split())
