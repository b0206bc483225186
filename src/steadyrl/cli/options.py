"""Options from dataclasses and settings, by tyro."""

import json
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
from steadyrl.base.variants import variants_of

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
        return kind.model_construct(**values)

    unchecked.__doc__ = getdoc(kind)
    fields = []
    for name, field in kind.model_fields.items():
        value = getattr(info.default, name, tyro.MISSING)
        help_text = " ".join((field.description or "").split()) or None
        type_ = _annotation(field, value)
        fields.append(StructFieldSpec(name=name, type=type_, default=value, helptext=help_text))
    return StructConstructorSpec(instantiate=unchecked, fields=tuple(fields))


def _annotation(field: FieldInfo, value: Any) -> Any:
    """The type of a field; where it has variants, a union of the built-in ones and of `value`."""
    variants = variants_of(field)
    if variants is None:
        return field.annotation
    kinds: list[type[Settings]] = list(variants.built_in.values())
    if isinstance(value, Settings) and type(value) not in kinds:
        kinds.append(type(value))
    optional = [None] if NoneType in get_args(field.annotation) else []
    return Union[(*kinds, *optional)]


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
