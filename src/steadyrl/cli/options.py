"""Options from dataclasses and settings, by tyro."""

import json
from collections.abc import Mapping
from inspect import getdoc
from types import NoneType
from typing import Any, TypeVar, Union, get_args, get_origin

import tyro
import yaml
from pydantic.fields import FieldInfo
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variants, variants_of

Options = TypeVar("Options")


def read_options(
    kind: type[Options],
    arguments: list[str],
    *,
    program: str,
    default: Options | None = None,
    switches: bool = False,
) -> Options:
    """The options that `arguments` give.

    Settings among them are read, not judged: `run.config.parse` says once, about all of them,
    whether they are valid. Exits with code 2 and says why when an option cannot be read.

    Args:
        switches: `--quick` stands for `--quick True`.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind,
        args=arguments,
        prog=program,
        config=_COMMON if switches else _MARKERS,
        registry=_REGISTRY,
        **given,
    )


def read_known_options(kind: type[Options], arguments: list[str], *, program: str) -> Options:
    """The options of `kind` among `arguments`, which may hold others."""
    given = [argument for argument in arguments if argument not in ("-h", "--help")]
    options, _others = tyro.cli(
        kind,
        args=given,
        prog=program,
        config=_MARKERS,
        registry=_REGISTRY,
        return_unknown_args=True,
    )
    return options


_COMMON = (tyro.conf.AvoidSubcommands, tyro.conf.EnumChoicesFromValues)
_MARKERS = (*_COMMON, tyro.conf.FlagConversionOff)
_REGISTRY = ConstructorRegistry()


@_REGISTRY.struct_rule
def _settings(info: StructTypeInfo) -> StructConstructorSpec | None:
    kind = info.type
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return None

    def unchecked(**values: Any) -> Settings:
        return kind.model_construct(**{name: _plain(value) for name, value in values.items()})

    unchecked.__doc__ = getdoc(kind)
    fields = []
    for name, field in kind.model_fields.items():
        value = getattr(info.default, name, tyro.MISSING)
        help_text = " ".join((field.description or "").split()) or None
        type_ = _annotation(field, value)
        item = next(iter(get_args(type_)), None)
        if isinstance(item, type) and issubclass(item, _Chosen) and value is not tyro.MISSING:
            value = tuple(map(item.of, value))
        fields.append(StructFieldSpec(name=name, type=type_, default=value, helptext=help_text))
    return StructConstructorSpec(instantiate=unchecked, fields=tuple(fields))


def _annotation(field: FieldInfo, value: Any) -> Any:
    """The type of a field; where it has variants, a union of the built-in ones and of `value`."""
    variants = variants_of(field)
    if variants is None:
        return field.annotation
    if get_origin(field.annotation) is tuple:
        chosen: Any = type("Chosen", (_Chosen,), {"variants": variants})
        return tuple[chosen, ...]
    kinds: list[type[Settings]] = list(variants.built_in.values())
    if isinstance(value, Settings) and type(value) not in kinds:
        kinds.append(type(value))
    optional = [None] if NoneType in get_args(field.annotation) else []
    return Union[(*kinds, *optional)]


class _Chosen(str):
    """One of several variants in a list, in one word: its name, or a mapping that holds it."""

    variants: Variants

    @classmethod
    def typed(cls, words: list[str]) -> "_Chosen":
        """The word that was typed, if it can be read."""
        chosen = cls(words[0])
        chosen.read()
        return chosen

    @classmethod
    def of(cls, value: Any) -> "_Chosen":
        """The word for settings, or for a mapping with all of them."""
        settings = value
        if isinstance(value, Mapping):
            settings = cls.variants.find(value["name"]).model_validate(value)
        own = settings.model_dump(mode="json", exclude_defaults=True)
        return cls(json.dumps({"name": settings.name, **own}) if own else settings.name)

    def read(self) -> str | dict[str, Any]:
        """What a configuration takes in its place."""
        return _read_mapping(self) if self.startswith("{") else str(self)


@_REGISTRY.primitive_rule
def _chosen(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[_Chosen] | None:
    """`wandb`, or with settings of its own `{name: wandb, project: words}`."""
    kind = info.type
    if not (isinstance(kind, type) and issubclass(kind, _Chosen)):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(kind.variants.names()),
        instance_from_str=kind.typed,
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


def _plain(value: Any) -> Any:
    """`value`, in which what was chosen by a word is as a configuration takes it."""
    if isinstance(value, tuple):
        return tuple(each.read() if isinstance(each, _Chosen) else each for each in value)
    return value


_TRUTHS = ("false", "true")


@_REGISTRY.primitive_rule
def _truth(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool] | None:
    """`true` and `false` as in YAML, besides Python's `True` and `False`."""
    if info.type is not bool:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{true,false}",
        instance_from_str=lambda words: _read_truth(words[0]),
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    )


def _read_truth(word: str) -> bool:
    if word.lower() not in _TRUTHS:
        raise ValueError(f"{word!r} is neither true nor false. Give one of them.")
    return word.lower() == "true"


@_REGISTRY.primitive_rule
def _mapping(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
    """Names and values, written as in one line of YAML or JSON: `{digits: 4}`."""
    if get_origin(info.type) is not dict:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{NAME: VALUE, ...}",
        instance_from_str=lambda words: _read_mapping(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _read_mapping(text: str) -> dict[str, Any]:
    remedy = "Write names and values in braces and in quotes, such as '{digits: 4}'."
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} is neither YAML nor JSON. {remedy}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} holds no names. {remedy}")
    return {str(name): given for name, given in value.items()}


@_REGISTRY.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """Infinity is `.inf` as in YAML, besides Python's `inf`."""
    if info.type is not float:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=lambda words: float("inf" if words[0] == ".inf" else words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [str(value)],
    )
