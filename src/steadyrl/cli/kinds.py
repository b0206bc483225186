"""Options that choose which kind of block a configuration has, or that it has none.

--algorithm.memory.name none      another kind, with its own defaults and what else is given for it,
                            which may be another kind within: --environment.name hotpot_qa
                            --environment.questions.name synthetic
--cold-start none           no such block
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, cast, get_args

from pydantic.fields import FieldInfo

from steadyrl.base.settings import Settings
from steadyrl.base.variants import variants_of
from steadyrl.run.config import RunConfig, parse


def choose_kinds(
    recipe: Mapping[str, Any], options: list[str], where: str
) -> tuple[RunConfig, list[str]]:
    """`recipe` with the blocks that `options` ask for, and the options that are still to be read.

    Args:
        recipe: The values of a configuration, which may become valid by these blocks alone.

    Raises:
        UserError: with these blocks alone it is no valid configuration. Where --help is among the
            options, it need not be: the help says what is required.
    """
    explains = any(option in ("-h", "--help") for option in options)
    values = deepcopy(dict(recipe))
    given = dict(_pairs(options))
    left = list(options)
    for option, value in given.items():
        *path, leaf = option.removeprefix("--").replace("-", "_").split(".")
        block = _block(values, path)
        if block is None:
            continue
        if value.lower() == "none" and isinstance(block.get(leaf), dict):
            block[leaf] = None
            left = _without(left, option)
        elif leaf == "name" and value != block.get("name"):
            block.clear()
            block.update(_below(given, option.removesuffix("name"), names_only=explains))
    if explains:
        return cast(RunConfig, unchecked(RunConfig, values)), left
    return parse(values, where), left


def unchecked(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Settings of `kind` with `values`, not validated. What is required and not given is absent."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name in values:
            value, below = values[name], _kind_of_field(field, values[name])
            fields[name] = value if below is None else unchecked(below, value)
        elif not field.is_required():
            fields[name] = field.get_default(call_default_factory=True)
    return kind.model_construct(set(fields), **fields)


def _kind_of_field(field: FieldInfo, value: Any) -> type[Settings] | None:
    variants = variants_of(field)
    if variants is None:
        return _kind_of(field.annotation, value)
    return variants.find(value["name"]) if isinstance(value, Mapping) else None


def _kind_of(annotation: Any, value: Any) -> type[Settings] | None:
    """The settings among the types of `annotation` that have the name in `value`."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        name = annotation.model_fields.get("name")
        matches = name is None or value.get("name", name.default) == name.default
        return annotation if matches else None
    kinds = [_kind_of(part, value) for part in get_args(annotation)]
    return next((kind for kind in kinds if kind is not None), None)


def _pairs(options: list[str]) -> Iterator[tuple[str, str]]:
    """Each option that has one value, and that value."""
    for number, option in enumerate(options):
        if not option.startswith("--"):
            continue
        name, equals, value = option.partition("=")
        following = options[number + 1 : number + 2]
        if equals:
            yield name, value
        elif following and not following[0].startswith("--"):
            yield name, following[0]


def _below(given: Mapping[str, str], prefix: str, *, names_only: bool) -> dict[str, Any]:
    """What is given for a block and the blocks within it: a kind may need some of it to be valid.

    It is only text. What needs no text to be valid, None and mappings, is left out: all of the
    options are read again, as what they are.
    """
    block: dict[str, Any] = {}
    for option, text in given.items():
        *path, leaf = option.removeprefix(prefix).replace("-", "_").split(".")
        empty = text.lower() == "none" and leaf != "name"
        if not option.startswith(prefix) or empty or text.startswith("{"):
            continue
        if names_only and leaf != "name":
            continue
        inner = block
        for name in path:
            inner = inner.setdefault(name, {})
        inner[leaf] = text
    return block


def _block(values: dict[str, Any], path: list[str]) -> dict[str, Any] | None:
    block: Any = values
    for name in path:
        block = block.get(name) if isinstance(block, dict) else None
    return block if isinstance(block, dict) else None


def _without(options: list[str], option: str) -> list[str]:
    """`options` without `option` and its value."""
    number = next(n for n, word in enumerate(options) if word.partition("=")[0] == option)
    words = 1 if "=" in options[number] else 2
    return options[:number] + options[number + words :]
