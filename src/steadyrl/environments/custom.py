"""Environments defined by user code and named `module:Class` or `module:function`."""

from typing import Any

from pydantic import Field, field_validator

from steadyrl.base.errors import UserError
from steadyrl.base.named_object import call_named
from steadyrl.environments.former_names import refuse_former_names
from steadyrl.environments.protocol import Environment
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.turn_limit import with_turn_limit


class CustomSettings(EnvironmentSettings):
    """A custom environment without a settings class of its own.

    Example:
        CustomSettings(name="my_tasks:Reverse", options={"digits": 6})
    """

    name: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:Class` of the environment, or `module:function` of a function that makes it. The
    module must be importable."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the call that makes the environment."""

    turns: int = Field(1, ge=1)
    """Maximum number of turns per episode. An episode that continues after them fails."""

    blocking: bool = False
    """Whether `respond` blocks on a tool or server. If so, it is called in threads, so that it does
    not delay other episodes."""

    @field_validator("name")
    @classmethod
    def _accept_any_name(cls, name: str) -> str:
        return name

    def make(self) -> Environment:
        """The environment, with its turn limit enforced.

        Raises:
            UserError: the name cannot be imported, the call fails, or its result is not an
                environment.
        """
        environment = call_named(self.name, self.options, given_as="environment.name")
        if not isinstance(environment, Environment):
            raise UserError(
                f"{self.name} returned a {type(environment).__name__}, which is not an "
                "environment. Add the methods task(split, index) and start(task)."
            )
        refuse_former_names(environment)
        return with_turn_limit(environment, self.turns, blocks=self.blocking)

    @property
    def max_turns(self) -> int:
        """Maximum number of turns per episode."""
        return self.turns
