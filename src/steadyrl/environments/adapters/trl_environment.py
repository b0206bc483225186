"""Environments that were written for the `environment_factory` of TRL's trainers.

row        its columns are passed to `reset`, whose text is appended to the prompt
tool call  calls a public method of the environment; the model reads the result, or the error
no call    ends the episode: `get_reward` and the reward functions judge it
"""

import inspect
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from math import fsum
from threading import Lock
from typing import Any, Literal

import numpy as np
from pydantic import Field

from steadyrl.base.errors import UserError, cause
from steadyrl.base.named_object import call_named, named_object
from steadyrl.environments.adapters.sessions import (
    Session,
    SessionEnvironment,
    SessionSettings,
    Step,
    seed_of,
)
from steadyrl.environments.adapters.tool_turns import ToolError, arguments_of, calls_of
from steadyrl.environments.dataset import Dataset, DatasetSettings
from steadyrl.environments.dataset.background_loop import BackgroundLoop
from steadyrl.environments.dataset.examples import Columns
from steadyrl.environments.dataset.settings import SplitNames
from steadyrl.environments.protocol import Split, as_reward
from steadyrl.records.message import Message
from steadyrl.records.tool_calls import ToolCall, ToolSettings

_NOT_TOOLS = ("reset", "get_reward")
_SEEDING = Lock()


class TRLSettings(SessionSettings):
    """An environment that was written for the `environment_factory` of TRL's trainers.

    Its public methods are the tools. A turn without a call ends the episode.
    """

    name: Literal["trl"] = "trl"

    factory: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:Class` of the environment, or `module:function` that makes one: what a script passes
    to the trainer as `environment_factory`."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of that call. TRL itself passes none."""

    rewards: tuple[str, ...] = ()
    """`module:function` of each reward function, which may take `environments`. Their sum is added
    to `get_reward`, if the environment has it."""

    path: str | None = None
    """Dataset whose columns are passed to `reset`: a file, folder or name on the Hub, as of the
    environment `dataset`. None: `reset` itself makes the task; what it draws from the global
    generators of Python and NumPy is seeded by the task."""

    columns: Columns = Columns()

    splits: SplitNames = SplitNames()

    system: str | None = None
    """System prompt."""

    prompt: str = ""
    """Prompt if there is no dataset. The text that `reset` returns is appended to it."""

    tools: ToolSettings = ToolSettings()

    def make(self) -> "TRLEnvironment":
        """The environment.

        Raises:
            UserError: the factory, a reward function or the dataset cannot be used.
        """
        return TRLEnvironment(self)


class TRLEnvironment(SessionEnvironment):
    """Every attempt has an instance of its own. Rewards are given at the end of an episode."""

    role = "tool"

    def __init__(self, settings: TRLSettings) -> None:
        super().__init__(settings, settings.factory.rpartition(":")[2])
        self.tool_form = settings.tools
        self._settings = settings
        self._functions = [
            named_object(name, given_as="environment.rewards") for name in settings.rewards
        ]
        self._rows = _rows(settings)
        self._loop = BackgroundLoop()
        instance = self._instance()
        self._has_reward = callable(getattr(type(instance), "get_reward", None))
        self.tools = tuple(map(_schema, tools_of(instance).values()))
        if not (self._has_reward or self._functions):
            raise UserError(
                f"{settings.factory} has no get_reward, and environment.rewards names no function. "
                "Add one of them."
            )

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of rows in `split`; None without a dataset."""
        return None if self._rows is None else self._rows.distinct_tasks(split)

    def open(self, split: Split, index: int) -> Session:
        """A new instance of the environment."""
        return _TRLSession(
            self._instance(),
            row=self._row(split, index),
            seed=seed_of(split, index),
            form=self.tool_form,
            judge=self._judge,
            finish=self._finish,
        )

    def prompt(self, split: Split, index: int, opening: str) -> tuple[Message, ...]:
        """The row's prompt, with the text of `reset` at its end."""
        if self._rows is None:
            system = self._settings.system
            start = [Message(role="system", content=system)] if system is not None else []
            return (*start, Message(role="user", content=self._settings.prompt + opening))
        *before, final = self._rows.task(split, index).prompt
        return (*before, Message(role=final.role, content=final.content + opening))

    def close(self) -> None:
        """Ends coroutines that still run."""
        self._loop.close()

    def _instance(self) -> Any:
        settings = self._settings
        instance = call_named(settings.factory, settings.options, given_as="environment.factory")
        if not callable(getattr(instance, "reset", None)):
            raise UserError(
                f"{settings.factory} returned a {type(instance).__name__}, which has no method "
                "reset. TRL requires it too: add it."
            )
        return instance

    def _row(self, split: Split, index: int) -> dict[str, Any]:
        """Columns of the row, copied so that `reset` may keep and change them."""
        if self._rows is None:
            return {"prompt": [{"role": "user", "content": self._settings.prompt}]}
        return deepcopy(dict(self._rows.task(split, index).payload.columns))

    def _judge(self, instance: Any, row: Mapping[str, Any], said: list[dict[str, str]]) -> float:
        """The sum of all rewards."""
        rewards = [self._finish(instance.get_reward())] if self._has_reward else []
        columns = {name: [value] for name, value in row.items() if name != "prompt"}
        for function in self._functions:
            given = function(
                prompts=[row.get("prompt")], completions=[said], environments=[instance], **columns
            )
            (reward,) = self._finish(given)
            rewards += [] if reward is None else [reward]
        return fsum(map(as_reward, rewards))

    def _finish(self, answer: Any) -> Any:
        """The answer of a method. A coroutine runs in a loop that all instances share."""
        if not isinstance(answer, Awaitable):
            return answer

        async def wait() -> Any:
            return await answer

        return self._loop.submit(wait()).result()


class _TRLSession:
    def __init__(
        self,
        instance: Any,
        *,
        row: dict[str, Any],
        seed: int,
        form: ToolSettings,
        judge: Callable[[Any, Mapping[str, Any], list[dict[str, str]]], float],
        finish: Callable[[Any], Any],
    ) -> None:
        self._instance = instance
        self._tools = tools_of(instance)
        self._row = row
        self._seed = seed
        self._form = form
        self._judge = judge
        self._finish = finish
        self._said: list[dict[str, str]] = []

    def reset(self) -> str:
        """Text of `reset`; empty if it returns none."""
        with seeded(self._seed):
            opening = self._instance.reset(**self._row)
        if opening is None or isinstance(opening, str):
            return opening or ""
        raise TypeError(f"reset returned {opening!r:.200}. Only text and None are supported")

    def step(self, text: str, *, last: bool) -> Step:
        """Results of the turn's calls, or the reward."""
        self._said.append({"role": "assistant", "content": text})
        calls = () if last else calls_of(text, self._form)
        if not calls:
            reward = self._judge(self._instance, self._row, self._said)
            return Step(observations=(), reward=reward, done=True)
        results = tuple(map(self._result, calls))
        self._said += [{"role": "tool", "content": result} for result in results]
        return Step(observations=results, reward=0.0, done=False)

    def close(self) -> None:
        """Does nothing: TRL knows no end of an environment."""

    def _result(self, call: ToolCall) -> str:
        """Result of a call as the model reads it, in TRL's words if it fails."""
        try:
            if call.name not in self._tools:
                raise ToolError(f"Tool {call.name} not found.")
            return str(self._finish(self._tools[call.name](**arguments_of(call))))
        except Exception as error:  # the model reads what the tool says of its arguments
            return str({"error": str(error)})


def tools_of(instance: Any) -> dict[str, Callable[..., Any]]:
    """Public methods of an environment by name, except `reset` and `get_reward`."""
    methods = inspect.getmembers(type(instance), predicate=inspect.isfunction)
    return {
        name: getattr(instance, name)
        for name, _ in methods
        if name not in _NOT_TOOLS and not name.startswith("_")
    }


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python and NumPy, and restores them afterwards."""
    with _SEEDING:
        states = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _schema(tool: Callable[..., Any]) -> dict[str, Any]:
    """Schema of a tool, from its annotations and docstring, as TRL makes it."""
    from transformers.utils import get_json_schema

    try:
        return get_json_schema(tool)
    except Exception as error:  # of the types and docstrings that it cannot read
        raise UserError(
            f"The tool {tool.__name__} has no schema: {cause(error)}. Annotate its arguments, and "
            "describe each in the section Args of its docstring."
        ) from error


def _rows(settings: TRLSettings) -> Dataset | None:
    """The dataset without rewards; None if there is none."""
    if settings.path is None:
        return None
    return DatasetSettings(
        path=settings.path,
        columns=settings.columns,
        splits=settings.splits,
        system=settings.system,
        rewards="length",
    ).make_with({})
