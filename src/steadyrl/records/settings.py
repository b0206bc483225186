"""The base of every configuration model."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings that refuse unknown names.

    Attribute docstrings document the fields; the command line shows them as help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
