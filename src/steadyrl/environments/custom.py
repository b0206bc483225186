"""An environment of your own, by the name of the function or class that makes it."""

from functools import partial
from inspect import signature
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.errors import UserError, answer_of
from steadyrl.base.named_object import named_object
from steadyrl.base.settings import Settings
from steadyrl.environments.protocol import Environment
from steadyrl.environments.turn_limit import with_turn_limit


class CustomSettings(Settings):
    """Where an environment of your own comes from.

    Example:
        CustomSettings(made_by="my_tasks:Reverse", options={"digits": 6})
    """

    name: Literal["custom"] = "custom"

    made_by: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:name` of what is called to make it. The module must be importable."""

    options: dict[str, Any] = Field(default_factory=dict)
    """What it is called with, by name."""

    turns: int = Field(1, ge=1)
    """The most turns of the model that an episode takes. One that goes on after them has failed."""

    blocking: bool = False
    """`respond` waits for a tool or a server without `await`. It is called in threads then, for
    several episodes at once, so that none of them holds up the others."""


def make_custom(settings: CustomSettings) -> Environment:
    """Calls what `settings` name.

    Raises:
        UserError: there is no such thing, it fails, or what it makes is no environment.
    """
    maker = named_object(settings.made_by, given_as="environment.made_by")
    _check_call(maker, settings)
    environment = answer_of(
        partial(maker, **settings.options),
        failure=f"{settings.made_by} failed with the options {settings.options}",
        remedy="Correct it, or give other options.",
    )
    if not isinstance(environment, Environment):
        raise UserError(
            f"{settings.made_by} makes a {type(environment).__name__}, which is no environment. It "
            "needs the methods task(split, index) and start(task)."
        )
    return with_turn_limit(environment, settings.turns, blocks=settings.blocking)


def _check_call(maker: Any, settings: CustomSettings) -> None:
    """Raises UserError where `maker` does not take the options, before any line of it has run."""
    if not callable(maker):
        raise UserError(
            f"{settings.made_by} is {maker!r:.200}, which cannot be called. Name the class or "
            "function that makes the environment."
        )
    try:
        signature(maker).bind(**settings.options)
    except TypeError as error:
        raise UserError(
            f"{settings.made_by} cannot be called with the environment's options: {error}. Give "
            "those that it takes."
        ) from error
