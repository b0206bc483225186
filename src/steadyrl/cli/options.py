"""Options from dataclasses and settings, by tyro."""

from inspect import getdoc
from typing import Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from steadyrl.records.settings import Settings

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
    fields = tuple(
        StructFieldSpec(
            name=name,
            type=field.annotation,  # type: ignore[arg-type]
            default=getattr(info.default, name, tyro.MISSING),
            helptext=" ".join((field.description or "").split()) or None,
        )
        for name, field in kind.model_fields.items()
    )
    return StructConstructorSpec(instantiate=unchecked, fields=fields)


_TRUTHS = ("false", "true")


@_REGISTRY.primitive_rule
def _truth(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool] | None:
    """`true` and `false` as in YAML, besides Python's `True` and `False`."""
    if info.type is not bool:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{true,false}",
        instance_from_str=lambda words: _TRUTHS.index(words[0].lower()) == 1,
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    )


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
