"""Environments of other libraries that are reset and stepped, as environments of this package.

task      a session is opened and reset; its first observation is part of the prompt
episode   another session is reset to the same observation, then stepped with each turn's text
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Semaphore, Thread
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from steadyrl.base.concurrency import in_thread
from steadyrl.base.errors import call_user_code
from steadyrl.environments.adapters.time_limits import SlowCallError, await_within, call_within
from steadyrl.environments.protocol import Episode, Outcome, Split, Task, as_reward
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.records.message import Message, Role
from steadyrl.records.tool_calls import ToolSettings, with_tools

_SPLIT_NUMBERS = {split: place for place, split in enumerate(Split)}

LONGEST_WAIT = 600.0
"""Seconds that an episode waits for a free session."""


class OtherObservationError(RuntimeError):
    """A session began with another observation than the task's prompt shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a session answers to one turn of the model.

    Example:
        Step(observations=("You see a door.",), reward=0.0, done=False)
    """

    observations: tuple[str, ...]
    """What the model reads before its next turn, each in a message of its own."""

    reward: Any
    """The reward as the environment gave it. What is not a finite number fails the episode."""

    done: bool
    feedback: str = ""


@runtime_checkable
class Session(Protocol):
    """One instance of another library's environment."""

    def reset(self) -> str:
        """Begins the task. The first observation; empty if there is none."""
        ...

    def step(self, text: str, *, last: bool) -> Step:
        """Answer to the model's turn. After the `last` one the episode ends in any case."""
        ...

    def close(self) -> None:
        """Releases what the session holds."""
        ...


class SessionSettings(EnvironmentSettings):
    """Limits of episodes of another library's environment."""

    turns: int = Field(16, ge=1)
    """Maximum number of turns per episode. An episode that is not over after them ends with the
    reward that it has earned."""

    timeout: float | None = Field(60.0, gt=0.0)
    """Maximum seconds per call of the environment, which then runs in a thread; an episode with a
    slower call fails. None: no limit, and calls run one after another, so that runs repeat to the
    bit."""

    @property
    def max_turns(self) -> int:
        """Maximum number of turns per episode."""
        return self.turns


class SessionEnvironment(ABC):
    """Tasks that are sessions of another library's environment.

    Args:
        label: Name of the environment for ids of tasks and for messages.
    """

    role: Role = "user"
    """Role of observations after the first."""

    tools: tuple[dict[str, Any], ...] = ()
    """Schemas of the tools that the model may call."""

    tool_form = ToolSettings()
    """How tools are shown and called."""

    slots: Semaphore | None = None
    """Sessions that may be open at the same time. Episodes wait for one."""

    def __init__(self, settings: SessionSettings, label: str) -> None:
        self.turns = settings.turns
        self.timeout = settings.timeout
        self.label = label

    @abstractmethod
    def open(self, split: Split, index: int) -> Session:
        """A new session for task number `index` of `split`."""

    @abstractmethod
    def prompt(self, split: Split, index: int, opening: str) -> tuple[Message, ...]:
        """Prompt of the task whose first observation is `opening`."""

    def task(self, split: Split, index: int) -> Task:
        """Task number `index` of `split`.

        Raises:
            UserError: its session cannot be opened or reset, or takes too long.
        """
        opening = call_user_code(
            partial(call_within, self.timeout, partial(self.opening, split, index)),
            failure=f"{self.label} did not begin task {index} of the {split} split",
            remedy="Check the options of the environment.",
        )
        prompt, tools = with_tools(self.prompt(split, index, opening), self.tools, self.tool_form)
        return Task(
            id=f"{self.label}/{split}/{index}",
            prompt=tuple(prompt),
            payload=(split, index, opening),
            tools=tools,
        )

    def start(self, task: Task) -> Episode:
        """Starts an attempt. Its session is opened at its first turn."""
        return _SessionEpisode(self, *task.payload)

    def opening(self, split: Split, index: int) -> str:
        """The first observation of a task."""
        session = self.open(split, index)
        try:
            return session.reset()
        finally:
            session.close()


class _SessionEpisode:
    """An attempt. Its session is closed at its end, or when the rollout forgets the attempt."""

    def __init__(
        self, environment: SessionEnvironment, split: Split, index: int, opening: str
    ) -> None:
        self._environment = environment
        self._place = split, index
        self._opening = opening
        self._lease: _Lease | None = None
        self._taken = 0

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """Outcome of the model's turn."""
        limit = self._environment.timeout
        if limit is not None:
            return self._respond_within(limit, text)
        if self._lease is None:
            self._rent()
        return self._take_turn(text)

    async def _respond_within(self, limit: float, text: str) -> Outcome:
        if self._lease is None:
            await in_thread(self._rent)
        try:
            return await await_within(limit, partial(self._take_turn, text))
        except BaseException:  # whose traceback would keep this episode and its slot for a while
            self._end()
            raise

    def _rent(self) -> None:
        """Waits for a free slot, and takes it until the end of the episode."""
        slots = self._environment.slots
        if slots is not None and not slots.acquire(timeout=LONGEST_WAIT):
            raise SlowCallError(f"no session of {self._environment.label} became free in time")
        self._lease = _Lease(slots)
        self._end = weakref.finalize(self, self._lease.end)

    def _take_turn(self, text: str) -> Outcome:
        assert self._lease is not None, "a turn is taken after a slot"
        if self._lease.session is None:
            self._begin(self._lease)
        session = self._lease.session
        assert session is not None, "it has begun"
        self._taken += 1
        last = self._taken >= self._environment.turns
        step = session.step(text, last=last)
        reward = as_reward(step.reward)
        if step.done or last:
            self._end()
            return Outcome(reward=reward, terminated=True, feedback=step.feedback)
        role = self._environment.role
        observation = tuple(Message(role=role, content=text) for text in step.observations)
        return Outcome(
            reward=reward, terminated=False, observation=observation, feedback=step.feedback
        )

    def _begin(self, lease: "_Lease") -> None:
        lease.session = self._environment.open(*self._place)
        opening = lease.session.reset()
        if opening != self._opening:
            raise OtherObservationError(
                f"the task began with {opening!r:.200} now, and with {self._opening!r:.200} when "
                "its prompt was made. An environment must begin a task the same way each time"
            )


class _Lease:
    """A slot and the session in it, to be given back once."""

    def __init__(self, slots: Semaphore | None) -> None:
        self._slots = slots
        self.session: Session | None = None

    def end(self) -> None:
        """Closes the session in a thread, for which nothing waits, and frees the slot."""
        Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        with suppress(Exception):  # what fails after an episode concerns no one
            if self.session is not None:
                self.session.close()
        if self._slots is not None:
            self._slots.release()


def seed_of(split: Split, index: int) -> int:
    """Seed of a task. No other task of any split has it."""
    return index * len(Split) + _SPLIT_NUMBERS[split]
