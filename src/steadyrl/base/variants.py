"""Settings that are chosen by name: built in, registered by other packages, or `module:Class`.

class Shape(Variant):                       # base class of all variants
    def area(self) -> float: ...

class Square(Shape):
    name: Literal["square"] = "square"
    side: float = 1.0

class Drawing(Settings):
    shape: Annotated[Shape, Variants(Shape, "drawing.shapes", Square)] = Square()

Drawing.model_validate({"shape": "square"})
Drawing.model_validate({"shape": {"name": "square", "side": 2}})
Drawing.model_validate({"shape": {"name": "my_shapes:Circle", "radius": 3}})
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint
from inspect import get_annotations, isabstract
from typing import Any, cast, get_args

from pydantic import ConfigDict, GetCoreSchemaHandler, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from steadyrl.base.errors import UserError, call_user_code, safe_repr
from steadyrl.base.named_object import named_object
from steadyrl.base.plugins import registered
from steadyrl.base.settings import Settings
from steadyrl.base.text import nearest_or_all


class Variant(Settings):
    """Settings that are chosen by `name`.

    A class declares its name as `name: Literal["square"] = "square"`. Without a declaration, its
    name is `module:Class`; `name: str = ""` drops the declaration of a parent.
    """

    model_config = ConfigDict(validate_default=True)

    name: str = ""

    @field_validator("name")
    @classmethod
    def _accept_any_name(cls, name: str) -> str:
        own = name_of(cls)
        if name not in ("", own):
            raise ValueError(f"got {name!r}, but these settings are {own!r}. Leave it out")
        return own


def name_of(kind: type[Settings]) -> str:
    """The name that selects the settings class `kind` in a configuration."""
    declared = kind.model_fields["name"].default
    return declared or f"{kind.__module__}:{kind.__qualname__}"


class Variants:
    """Metadata of a field whose value is one of several variants of `base`.

    The value is an instance, a mapping with a `name`, or the name alone, which keeps every other
    field at its default. Names are looked up among the `built_in` classes, then among the entry
    points of `group`; `module:Class` names a class directly. All fields of the chosen class are
    dumped.

    Args:
        group: Group of entry points; None: only built-in variants are allowed.
        wrapper: Settings class with a field `name`, used for a `module:Class` that is not of
            settings and for a `module:function`; None: only settings classes are accepted.
        bare: Class and field that receive a string that is not close to any known name.

    Raises:
        ValidationError: no variant has this name, or the class is not a subclass of `base`.
    """

    def __init__(
        self,
        base: type[Variant],
        group: str | None,
        *built_in: type[Variant],
        wrapper: type[Variant] | None = None,
        bare: tuple[type[Variant], str] | None = None,
    ) -> None:
        self.base = base
        self.group = group
        self.built_in = {name_of(kind): kind for kind in built_in}
        self.wrapper = wrapper
        self.bare = bare

    def names(self) -> list[str]:
        """Names of the built-in variants and of the variants registered by other packages."""
        return [*self.built_in, *sorted({*self._registered()} - {*self.built_in})]

    def custom_names(self) -> list[str]:
        """Forms of names of user code that the field accepts."""
        if self.group is None:
            return []
        return ["module:Class", *(["module:function"] if self.wrapper else [])]

    def fields_of(self, text: str) -> dict[str, str]:
        """The fields set by a plain string: the name, or the field of `bare`."""
        if self.bare is None or get_close_matches(text, self.names(), n=1):
            return {"name": text}
        kind, field = self.bare
        return {"name": name_of(kind), field: text}

    def find(self, name: str) -> type[Variant]:
        """The variant called `name`.

        Raises:
            UserError: no variant has this name, or the named object cannot be used.
        """
        if name in self.built_in:
            return self.built_in[name]
        if ":" in name and self.group is not None:
            found = named_object(name, given_as="the name")
        elif (point := self._registered().get(name)) is not None:
            found = call_user_code(
                point.load,
                failure=f"{name!r} is {point.value} and cannot be loaded",
                remedy=f"Fix the package that registers it in the group {self.group}",
            )
        else:
            choice = nearest_or_all(name, self.names(), "Known names")
            if self.group and choice.endswith("."):
                choice = f"{choice.removesuffix('.')}, or {' or '.join(self.custom_names())}."
            raise UserError(f"unknown name, got {name!r}. {choice}")
        if self.wrapper is not None and not _is_settings(found) and ":" in name:
            return self.wrapper
        return self._checked(found, name)

    def _registered(self) -> Mapping[str, EntryPoint]:
        return {} if self.group is None else registered(self.group)

    def _checked(self, found: Any, name: str) -> type[Variant]:
        base = f"{self.base.__module__}.{self.base.__qualname__}"
        if not (_is_settings(found) and issubclass(found, self.base)) or found is self.base:
            raise UserError(
                f"{name!r} is {safe_repr(found)}, which is not a subclass of {base}. Derive it "
                "from that class"
            )
        if isabstract(found):
            missing = ", ".join(sorted(found.__abstractmethods__))
            raise UserError(f"{name!r} lacks methods of {base}: {missing}. Define them")
        own = name_of(found)
        if own != name and ":" not in own and self._meant_by(own) is not found:
            if "name" not in get_annotations(found):
                raise UserError(
                    f"{name!r} inherits the name {own!r} from the class that it derives from. Add "
                    'the line `name: str = ""` to it, so that it has a name of its own'
                )
            raise UserError(
                f"{name!r} declares the name {own!r}, under which it is not registered. Remove its "
                f"field 'name', or register it under that name in the group {self.group}"
            )
        return cast(type[Variant], found)

    def _meant_by(self, name: str) -> Any:
        point = self._registered().get(name)
        return self.built_in.get(name) or (point and point.load())

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def _validated(self, value: Any) -> Variant:
        if isinstance(value, self.base):
            return value
        fields = self.fields_of(value) if isinstance(value, str) else value
        if not isinstance(fields, Mapping):
            raise ValueError(f"got {safe_repr(value)}, expected a name or a mapping with a name")
        name = fields.get("name")
        if not isinstance(name, str):
            raise _name_error("required. It selects the settings of the block", name)
        try:
            kind = self.find(name)
        except UserError as error:
            raise _name_error(str(error), name) from error
        if kind is self.wrapper:
            return kind.model_validate(dict(fields))
        return kind.model_validate({**fields, "name": name_of(kind)})


def _is_settings(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Settings)


def _name_error(message: str, name: Any) -> ValidationError:
    problem = PydanticCustomError("variant", "{message}", {"message": message})
    details = InitErrorDetails(type=problem, loc=("name",), input=name)
    return ValidationError.from_exception_data("variant", [details])


def variants_of(field: FieldInfo) -> Variants | None:
    """The variants that a field accepts; None: the field has no variants."""
    held = [*field.metadata, *_metadata_within(field.annotation)]
    return next((each for each in held if isinstance(each, Variants)), None)


def _metadata_within(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _metadata_within(part)
