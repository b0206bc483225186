"""The base of every configuration model."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Frozen settings that reject unknown fields.

    Attribute docstrings document the fields; the command line shows them as help. Fields missing
    from the mapping of a nested block keep the value they have in the default of the outer field,
    which may differ from the defaults of the block's class; a block with another `name` starts from
    the defaults of its own class. A string given for a block that has a `name` selects that name.
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
    """`given`, completed with the fields of `default` if both have the same name."""
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
