"""The names of all options, and what to say of a name that is none of them."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from pydantic.fields import FieldInfo

from steadyrl.base.setting_texts import atoms, is_list, settings_in
from steadyrl.base.settings import Settings
from steadyrl.base.variants import variants_of

LIKE, VERY_LIKE = 0.6, 0.9
"""Share of equal letters from which on a name beside the wrong one, or elsewhere, was meant."""


class Positional:
    """Metadata of a field whose value is given without its name."""


def positionals(kind: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields that are given without their names."""
    for name, field in kind.model_fields.items():
        if any(isinstance(item, Positional) for item in field.metadata):
            yield name, field


def dashed(name: str) -> str:
    """A field, or the path of one, as the command line writes it."""
    return name.rstrip("_").replace("_", "-")


def option_names(
    kind: type[Settings], values: Mapping[str, Any] | None = None, prefix: str = ""
) -> list[str]:
    """The names of all options of `kind`, as `engine.max-running`.

    Blocks that can be chosen or left out are among them, and the fields of their variants.

    Args:
        values: Which variants the blocks are; without a name, those of the defaults.
    """
    names: list[str] = []
    for name, field in kind.model_fields.items():
        option, value = prefix + dashed(name), (values or {}).get(name)
        below = None if is_list(field) else settings_in(field, value)
        if below is None:
            names += [] if name == "name" and prefix else [option]
            continue
        if variants_of(field) is not None or None in atoms(field.annotation):
            names.append(option)
        if values is None or name not in values or value is not None:
            names += option_names(below, value if isinstance(value, Mapping) else {}, f"{option}.")
    return names


def unknown_option(
    written: str,
    path: Sequence[str],
    depth: int,
    known: Sequence[str],
    owners: Sequence[str] = (),
) -> str:
    """The error message for an unknown option.

    Args:
        written: The option as it was written.
        path: The names in it.
        depth: Which of these names nothing.
        known: The names of all options.
        owners: Other variants of the block, which have the option.
    """
    block, unknown = dashed(".".join(path[:depth])), dashed(path[depth])
    prefix = f"{block}." if block else ""
    if owners:
        choices = " or ".join(f"--{block} {owner}" for owner in owners)
        return f"There is no option {written} here. Use it with {choices}, or leave it out."
    below = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
    beside = list(dict.fromkeys(name.partition(".")[0] for name in below))
    here = [(_likeness(unknown, name), f"{prefix}{name}") for name in beside]
    leaves = [(_likeness(dashed(path[-1]), name.rpartition(".")[2]), name) for name in known]
    meant = [pair for pair in here if pair[0] >= LIKE] + [p for p in leaves if p[0] >= VERY_LIKE]
    if meant:
        _, close = max(meant, key=lambda pair: (pair[0], -pair[1].count(".")))
        full = ".".join([close, *map(dashed, path[depth + 1 :])])
        return (
            f"There is no option {written}. Did you mean --{full if full in known else close}? "
            "--help shows all."
        )
    if not beside:
        return f"There is no option {written}: {block} has no settings of its own."
    listed = ", ".join(f"--{prefix}{name}" for name in beside)
    return f"There is no option {written}. Options there are {listed}."


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
