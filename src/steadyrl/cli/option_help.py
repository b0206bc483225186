"""Help on options, made from the settings: the fields of the variants that are chosen."""

from collections.abc import Mapping
from inspect import cleandoc
from textwrap import fill
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from steadyrl.base.setting_texts import (
    atoms,
    default_text,
    is_list,
    meaning,
    settings_in,
    values_text,
)
from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variants, variants_of
from steadyrl.cli.option_names import dashed, positionals

WIDTH = 80

CUSTOM = "your own, as docs/extending.md shows."


def command_help(kind: type[Settings], program: str) -> str:
    """The usage of a command, what it does, and its options."""
    words = [f"usage: {program}"]
    described: list[str] = []
    for name, field in positionals(kind):
        many = any((get_origin(part) or part) is tuple for part in atoms(field.annotation))
        word = f"{name.upper()} ..." if many else name.upper()
        words.append(word if field.is_required() else f"[{word}]")
        described += [f"  {name.upper()}", *_filled(meaning(field), 8)]
    about = [line for text in cleandoc(kind.__doc__ or "").split("\n\n") for line in _filled(text)]
    lines = [" ".join([*words, "[options]"]), "", *about, "", *described, *options_help(kind)]
    return "\n".join(lines).rstrip()


def options_help(
    kind: type[Settings], values: Mapping[str, Any] | None = None, prefix: str = ""
) -> list[str]:
    """Lines about each option of `kind`, and a section for each block in it.

    Args:
        values: What the options have if they are not given, and which variants the blocks are.
    """
    values = values or {}
    lines: list[str] = []
    sections: list[str] = []
    for name, field in kind.model_fields.items():
        if name in dict(positionals(kind)) or (name == "name" and prefix):
            continue
        option = prefix + dashed(name)
        value = values[name] if name in values else field.get_default(call_default_factory=True)
        if is_list(field) or settings_in(field) is None:
            lines += _filled(f"--{option}  {values_text(field)} ({default_text(value)})", 2, 8)
            lines += _filled(f"{meaning(field)} {_custom_text(variants_of(field))}", 8)
        else:
            sections += _section(field, value, option)
    return [*lines, *([""] if lines else []), *sections]


def _section(field: FieldInfo, value: Any, option: str) -> list[str]:
    """A block: which variant it is, which others there are, and its options."""
    values = value.model_dump() if isinstance(value, Settings) else value
    variants, optional = variants_of(field), None in atoms(field.annotation)
    choices = [] if variants is None else [*variants.names(), *variants.custom_names()]
    choices += ["none"] if optional else []
    name = values.get("name", "") if isinstance(values, Mapping) else default_text(values)
    lines = [f"{option}: {name}" if name else option]
    if choices:
        lines += _filled(f"--{option}  {', '.join(choices)}", 2, 8)
    lines += _filled(f"{meaning(field)} {_custom_text(variants)}", 8)
    if not isinstance(values, Mapping):
        return [*lines, ""]
    kind = settings_in(field, values)
    assert kind is not None
    lines += _filled(cleandoc(kind.__doc__ or "").split("\n\n")[0], 2)
    return [*lines, *(options_help(kind, values, f"{option}.") or [""])]


def _custom_text(variants: Variants | None) -> str:
    """Where classes and functions of the user's are explained; empty if none is accepted."""
    names = variants.custom_names() if variants is not None else []
    return f"{', '.join(names)}: {CUSTOM}" if names else ""


def _filled(text: str, first: int = 0, further: int | None = None) -> list[str]:
    """`text` in lines of at most `WIDTH`, indented by so many columns."""
    return fill(
        " ".join(text.split(" ")) if first == 2 else " ".join(text.split()),
        WIDTH,
        initial_indent=" " * first,
        subsequent_indent=" " * (first if further is None else further),
        break_long_words=False,
        break_on_hyphens=False,
    ).splitlines()
