"""An environment of your own, by the name of the function or class that makes it."""

from typing import Any

from pydantic import Field, field_validator

from steadyrl.base.errors import UserError
from steadyrl.base.named_object import call_named
from steadyrl.environments.protocol import Environment
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.turn_limit import with_turn_limit


class CustomSettings(EnvironmentSettings):
    """Where an environment of your own comes from, if it has no settings of its own.

    Example:
        CustomSettings(name="my_tasks:Reverse", options={"digits": 6})
    """

    name: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:name` of what is called to make it. The module must be importable."""

    options: dict[str, Any] = Field(default_factory=dict)
    """What it is called with, by name."""

    turns: int = Field(1, ge=1)
    """The most turns of the model that an episode takes. One that goes on after them has failed."""

    blocking: bool = False
    """`respond` waits for a tool or a server without `await`. It is called in threads then, for
    several episodes at once, so that none of them holds up the others."""

    @field_validator("name")
    @classmethod
    def _accept_any_name(cls, name: str) -> str:
        return name

    def make(self) -> Environment:
        """What the call makes, held to the number of turns.

        Raises:
            UserError: there is no such thing, it fails, or what it makes is not an environment.
        """
        environment = call_named(self.name, self.options, given_as="environment.name")
        if not isinstance(environment, Environment):
            raise UserError(
                f"{self.name} makes a {type(environment).__name__}, which is not an environment. "
                "It needs the methods task(split, index) and start(task)."
            )
        return with_turn_limit(environment, self.turns, blocks=self.blocking)

    @property
    def max_turns(self) -> int:
        """The most turns that an episode takes."""
        return self.turns
