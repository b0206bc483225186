"""Custom reward functions: with TRL's signature, or for one completion at a time.

def shorter(completions, **columns):             # lists in, a list of rewards out, as in TRL
    return [-float(len(text)) for text in completions]

async def judged(prompt, completion, answer):    # one completion in, one reward out
    return await ask_a_judge(prompt, completion, answer)
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from pydantic import Field, field_validator

from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError, cause, safe_repr
from steadyrl.base.isolation import Isolated, IsolationError
from steadyrl.base.named_object import call_named, named_object
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.background_loop import BackgroundLoop
from steadyrl.environments.dataset.examples import Example
from steadyrl.environments.dataset.function_parameters import Parameters
from steadyrl.environments.dataset.rewards import Attempt, RewardResult, RewardSettings
from steadyrl.environments.protocol import as_reward
from steadyrl.records.message import Message

Arguments = dict[str, Any]

TRL_ONLY = frozenset({"trainer_state", "log_extra", "log_metric", "environments"})
"""Further arguments that TRL passes to reward functions."""


class FunctionReward(RewardSettings):
    """A custom reward function, named `module:function`.

    The function is called once with all completions of a prompt. It receives those of `prompts`,
    `completions`, `completion_ids` and the dataset columns that it takes, by keyword, as lists with
    one entry per completion, and returns a list of numbers, or None for entries to which it does
    not apply. A function with a parameter `completion` receives one completion, `prompt` and one
    value of each column, and returns a number or None. Both may be coroutine functions.
    """

    name: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:function`, or with `options` a `module:Class` or `module:function` that makes the
    function. The module must be importable."""

    options: dict[str, Any] | None = None
    """Keyword arguments of a call that makes the function. None: the named object is the
    function."""

    conversational: bool | None = None
    """Whether prompts and completions are lists of messages. None: as in TRL, if the dataset has
    messages or there is a system prompt; otherwise they are texts."""

    timeout: float | None = Field(None, gt=0.0)
    """Maximum seconds per call. Functions that are not coroutine functions then run in worker
    processes. None: no limit."""

    @field_validator("name")
    @classmethod
    def _accept_any_name(cls, name: str) -> str:
        return name

    @property
    def reads_answer(self) -> bool:
        """False: the function reads the columns itself."""
        return False

    def make(self, answer_format: AnswerFormat) -> "FunctionJudge":
        """The judge that calls the function.

        Raises:
            UserError: the function does not exist, or takes no completions.
        """
        return FunctionJudge(self)


class FunctionJudge:
    """Calls a reward function with the arguments that it takes, and validates its results."""

    def __init__(self, settings: FunctionReward) -> None:
        self._settings = settings
        self._name = settings.name
        self._function = load_function(settings.name, settings.options)
        try:
            self._parameters = Parameters.of(self._function)
        except ValueError as error:
            raise UserError(
                f"The parameters of the reward {self._name} cannot be read: {error}. Name a "
                "function of Python that takes completions or completion."
            ) from error
        if not self._parameters.takes_completions:
            raise UserError(
                f"The reward {self._name} takes neither completions (a list of answers) nor "
                "completion (one answer). Add one of these parameters."
            )
        self._loop = BackgroundLoop()
        self._workers: Isolated[[Arguments, int | None], list[float | None]] | None = None
        if settings.timeout is not None and not is_coroutine_function(self._function):
            make = partial(make_caller, settings.name, settings.options)
            self._workers = Isolated(make, timeout=settings.timeout)

    @property
    def compares(self) -> bool:
        """Whether the function receives all completions of a prompt at once."""
        return not self._parameters.one_by_one

    def check(self, example: Example) -> None:
        """Checks that all required arguments of the function are available.

        Raises:
            UserError: one is missing.
        """
        missing = sorted(self._parameters.required - self._available(example).keys())
        if unknown := TRL_ONLY.intersection(missing):
            raise UserError(
                f"The reward {self._name} takes {', '.join(sorted(unknown))}, which only TRL's "
                "trainer provides. Give it a default value."
            )
        if missing:
            raise UserError(
                f"The reward {self._name} takes {', '.join(missing)}, but the dataset has the "
                f"columns {', '.join(example.columns)}. Name the parameter after a column, or "
                "give it a default value."
            )

    async def judge(self, attempts: Sequence[Attempt]) -> list[RewardResult]:
        """Rewards of the attempts.

        Raises:
            UserError: the function fails, or returns something other than rewards.
        """
        if self.compares:
            return await self._call(self._arguments(attempts), len(attempts))
        calls = (self._call(self._arguments([attempt]), None) for attempt in attempts)
        return [mark for marks in await concurrently(calls) for mark in marks]

    def close(self) -> None:
        """Stops worker processes and running coroutines."""
        self._loop.close()
        if self._workers is not None:
            self._workers.close()

    async def _call(self, arguments: Arguments, count: int | None) -> list[RewardResult]:
        try:
            values = await self._values(arguments, count)
        except (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:  # user code may also raise SystemExit
            reason = _reason(error, self._settings.timeout)
            hint = ""
            if isinstance(error, TypeError) and "completions" in arguments:
                hint = ", or set conversational if it takes messages and not texts"
            failure = f"The reward {self._name} failed: {reason}. Correct the function{hint}."
            raise UserError(failure) from error
        return [RewardResult(value=value) for value in values]

    async def _values(self, arguments: Arguments, count: int | None) -> list[float | None]:
        if self._workers is not None:
            return await asyncio.wrap_future(self._workers.submit(arguments, count))
        if not is_coroutine_function(self._function):
            return validate_rewards(self._function(**arguments), count)
        limited = asyncio.wait_for(self._function(**arguments), self._settings.timeout)
        # One loop for the whole run: clients that the function keeps belong to the loop they met.
        return validate_rewards(await asyncio.wrap_future(self._loop.submit(limited)), count)

    def _arguments(self, attempts: Sequence[Attempt]) -> Arguments:
        """Available arguments that the function takes, copied so that it may change them."""
        taken = self._parameters
        own = [
            {
                name: deepcopy(value)
                for name, value in self._available(attempt.example, attempt).items()
                if taken.takes_all or name in taken.names
            }
            for attempt in attempts
        ]
        if not self.compares:
            return own[0]
        return {name: [each[name] for each in own] for name in own[0]}

    def _available(self, example: Example, attempt: Attempt | None = None) -> Arguments:
        """All arguments for one attempt; None: with an empty response."""
        attempt = attempt or Attempt(example=example, text="", answer=None)
        prompt, completion = self._prompt(example), self._completion(attempt)
        if not self.compares:
            return {**example.columns, "prompt": prompt, "completion": completion}
        hidden = ("prompt", "completion")
        return {
            **{name: value for name, value in example.columns.items() if name not in hidden},
            "prompts": prompt,
            "completions": completion,
            "completion_ids": list(attempt.token_ids),
        }

    def _is_conversational(self, example: Example) -> bool:
        setting = self._settings.conversational
        return example.conversational if setting is None else setting

    def _prompt(self, example: Example) -> Any:
        if self._is_conversational(example):
            return [_as_dict(message) for message in example.prompt]
        return "\n".join(message.content for message in example.prompt)

    def _completion(self, attempt: Attempt) -> Any:
        if self._is_conversational(attempt.example):
            return [_as_dict(Message(role="assistant", content=attempt.text))]
        return attempt.text


def _reason(error: BaseException, timeout: float | None) -> str:
    if isinstance(error, TimeoutError) and timeout is not None:
        return f"it took longer than {timeout:g} s"
    return f"it {error}" if isinstance(error, IsolationError) else cause(error)


def _as_dict(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def load_function(name: str, options: Mapping[str, Any] | None) -> Callable[..., Any]:
    """The function `name`, or the result of calling `name` with `options`.

    Raises:
        UserError: it does not exist, or cannot be called.
    """
    if options is None:
        found = named_object(name, given_as="A reward")
    else:
        found = call_named(name, options, given_as="A reward")
    if not callable(found):
        raise UserError(f"The reward {name} is {safe_repr(found)}. Name a function.")
    if options is None and inspect.isclass(found):
        raise UserError(
            f"The reward {name} is a class. Set its options, or {{}} for none, to make a function."
        )
    return found


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling `function`, which may be an object, returns an awaitable."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def make_caller(
    name: str, options: Mapping[str, Any] | None
) -> Callable[[Arguments, int | None], list[float | None]]:
    """A function that calls the function `name`, for a worker process."""
    function = load_function(name, options)
    return lambda arguments, count: validate_rewards(function(**arguments), count)


def validate_rewards(returned: Any, count: int | None) -> list[float | None]:
    """Validates the return value of a reward function.

    Args:
        count: Number of expected rewards; None: a single reward instead of a list.

    Raises:
        TypeError: a value is neither a number nor None.
        ValueError: the number of rewards is wrong, or one is not finite or too large.
    """
    if count is None:
        return [None if returned is None else as_reward(returned)]
    if isinstance(returned, str | bytes | Mapping) or not hasattr(returned, "__iter__"):
        raise TypeError(f"it returned {safe_repr(returned)}, not a list of rewards")
    values = list(returned)
    if len(values) != count:
        raise ValueError(f"it returned {len(values)} rewards for {count} completions")
    return [None if value is None else as_reward(value) for value in values]
