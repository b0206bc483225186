"""Environments of Gymnasium, played in text.

observation   a Text space as it is; the `ansi` rendering with colors as brackets; any other as JSON
action        a Text space as it is; a discrete one by name or number; any other as JSON
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.errors import UserError, cause
from steadyrl.base.extras import require_extra
from steadyrl.base.named_object import named_object
from steadyrl.environments.adapters.sessions import (
    Session,
    SessionEnvironment,
    SessionSettings,
    Step,
    seed_of,
)
from steadyrl.environments.protocol import Split
from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.message import Message

_COLORED = re.compile(r"\x1b\[[\d;]+m(.*?)\x1b\[0?m", re.DOTALL)
_CODES = re.compile(r"\x1b\[[\d;]*[A-Za-z]")


class GymnasiumSettings(SessionSettings):
    """An environment of Gymnasium, played in text.

    Task number i of a split resets it with a seed of its own. Whether different seeds are different
    tasks depends on the environment.
    """

    name: Literal["gymnasium"] = "gymnasium"

    id: str
    """Registered id, for example "FrozenLake-v1"; `module:id` imports the module first."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of `gymnasium.make`. With `render_mode: ansi` the model reads the rendering
    instead of the observation."""

    wrapper: str | None = Field(None, pattern=r"^[\w.]+:\w+$")
    """`module:function` that receives the environment and returns it wrapped, for example with
    observations and actions in `Text` spaces. None: the environment as it is."""

    actions: tuple[str, ...] = ()
    """Names of the actions of a discrete space, in order. Empty: their numbers."""

    instruction: str = ""
    """Text before the first observation: the rules. Empty: which actions there are."""

    timeout: float | None = Field(None, gt=0.0)
    """Maximum seconds per call of the environment, which then runs in a thread; an episode with a
    slower call fails. None: no limit, and calls run one after another, so that runs repeat to the
    bit."""

    def make(self) -> "GymnasiumText":
        """The environment.

        Raises:
            UserError: it cannot be made, or its space has another number of actions.
        """
        return GymnasiumText(self)


class GymnasiumText(SessionEnvironment):
    """Rewards are those of the environment. An invalid action changes nothing and earns 0."""

    def __init__(self, settings: GymnasiumSettings) -> None:
        require_extra("gymnasium", "gymnasium")
        super().__init__(settings, settings.id.rpartition(":")[2])
        self._settings = settings
        wrapper = settings.wrapper
        self._wrap = named_object(wrapper, given_as="environment.wrapper") if wrapper else None
        environment = self._make()
        space = environment.action_space
        environment.close()
        self._names = _names(space, settings.actions, self.label)
        self._instruction = settings.instruction or _how_to_act(space, self._names)

    def open(self, split: Split, index: int) -> Session:
        """A new environment, to be reset with the task's seed."""
        return _GymnasiumSession(self._make(), seed_of(split, index), self._names)

    def prompt(self, split: Split, index: int, opening: str) -> tuple[Message, ...]:
        """The instruction and the first observation."""
        return (Message(role="user", content=f"{self._instruction}\n\n{opening}"),)

    def _make(self) -> Any:
        import gymnasium

        settings = self._settings
        try:
            environment = gymnasium.make(settings.id, **settings.options)
            return self._wrap(environment) if self._wrap is not None else environment
        except Exception as error:  # also what the environment itself and the wrapper raise
            raise UserError(
                f"Gymnasium cannot make {settings.id!r} with the options {settings.options}: "
                f"{cause(error)}. Change environment.id, its options or its wrapper."
            ) from error


class _GymnasiumSession:
    def __init__(self, environment: Any, seed: int, names: Mapping[str, int]) -> None:
        self._environment = environment
        self._seed = seed
        self._names = {name.casefold(): number for name, number in names.items()}

    def reset(self) -> str:
        """The first observation."""
        observation, _ = self._environment.reset(seed=self._seed)
        return self._text_of(observation)

    def step(self, text: str, *, last: bool) -> Step:
        """Answer to an action."""
        try:
            action = self._action_of(strip_thinking(text).strip())
        except ValueError as error:
            said = f"This is not an action: {error}."
            return Step(observations=(said,), reward=0.0, done=False, feedback=said)
        observation, reward, terminated, truncated, _ = self._environment.step(action)
        return Step(
            observations=(self._text_of(observation),),
            reward=reward,
            done=bool(terminated or truncated),
            feedback="the environment's own limit was reached" if truncated else "",
        )

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()

    def _text_of(self, observation: Any) -> str:
        if self._environment.render_mode == "ansi":
            return plain_text(self._environment.render())
        if isinstance(observation, str):
            return observation
        return json.dumps(observation, default=_listed)

    def _action_of(self, text: str) -> Any:
        """The action that a turn names.

        Raises:
            ValueError: it names none.
        """
        space = self._environment.action_space
        if self._names:
            if text.casefold() not in self._names:
                raise ValueError(f"write one of {', '.join(self._names)}")
            return space.dtype.type(self._names[text.casefold()])
        action = _action_in(space, text)
        if not space.contains(action):
            raise ValueError(f"it is not in {space}")
        return action


def plain_text(rendering: str) -> str:
    """A rendering for terminals without its codes. Colored parts are in brackets instead."""
    return _CODES.sub("", _COLORED.sub(r"[\1]", rendering)).strip()


def _names(space: Any, names: Sequence[str], label: str) -> dict[str, int]:
    """Numbers of the actions by name; empty if they are not discrete.

    Raises:
        UserError: the space has another number of actions, or none.
    """
    from gymnasium.spaces import Discrete

    if not isinstance(space, Discrete):
        if names:
            raise UserError(
                f"environment.actions names {len(names)} actions, but {label} has the action space "
                f"{space}. Leave the names out."
            )
        return {}
    if names and len(names) != space.n:
        raise UserError(
            f"environment.actions names {len(names)} actions, but {label} has {space.n}. Name "
            "each, in order."
        )
    numbers = range(int(space.start), int(space.start + space.n))
    return dict(zip(names or map(str, numbers), numbers, strict=True))


def _how_to_act(space: Any, names: Mapping[str, int]) -> str:
    """The instruction if there is none."""
    from gymnasium.spaces import Text

    if names:
        return f"Answer with one of these actions: {', '.join(names)}."
    if isinstance(space, Text):
        return "Answer with an action."
    return f"Answer with an action as JSON, in {space}."


def _action_in(space: Any, text: str) -> Any:
    from gymnasium.spaces import Text

    if isinstance(space, Text):
        return text
    try:
        return _from_json(space, json.loads(text))
    except Exception as error:  # what does not fit, each space refuses in its own way
        raise ValueError(f"write JSON for {space}") from error


def _from_json(space: Any, value: Any) -> Any:
    """An element of a space. Those of composite spaces are objects and lists of elements."""
    from gymnasium.spaces import Dict, Text, Tuple

    if isinstance(space, Dict):
        return {name: _from_json(part, value[name]) for name, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_from_json(*pair) for pair in zip(space.spaces, value, strict=True))
    if isinstance(space, Text):
        return value
    (element,) = space.from_jsonable([value])
    return element


def _listed(value: Any) -> Any:
    """A NumPy scalar or array as numbers and lists."""
    return value.tolist()
