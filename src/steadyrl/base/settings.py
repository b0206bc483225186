"""The base of every configuration model."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Frozen settings that refuse unknown names.

    Attribute docstrings document the fields; the command line shows them as help. What a mapping
    leaves out of a nested block is taken from the field's own default, which may differ from that
    of the block's type; a block of another `name` begins with the defaults of its type. A text in
    the place of a block with a `name` is that name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _complete_nested_blocks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        completed = {
            name: _over(field.default, values[name])
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Settings) and isinstance(values.get(name), Mapping | str)
        }
        return {**values, **completed}


def _over(default: Settings, given: Mapping[Any, Any] | str) -> Any:
    """`given`, completed by `default` if it is of the same kind."""
    fields = dict(default)
    kind = fields.get("name")
    if isinstance(given, str):
        if given != kind:
            return given
        given = {"name": given}
    if given.get("name", kind) != kind:
        return dict(given)
    merged = default.model_dump()
    for name, value in given.items():
        below = fields.get(name)
        if isinstance(below, Settings) and isinstance(value, Mapping | str):
            merged[name] = _over(below, value)
        else:
            merged[name] = value
    return merged
