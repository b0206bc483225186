"""Environments whose episodes are run by agent programs, which call the model by OpenAI's API.

task, base URL, key  -->  program  -->  reward
|
+--> model, any number of times, through the gateway
"""

import asyncio
import inspect
import re
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from steadyrl.base.concurrency import in_thread
from steadyrl.base.errors import UserError
from steadyrl.base.named_object import call_named, named_object
from steadyrl.environments.agent_access import AgentFailedError, AgentTask, ModelAccess
from steadyrl.environments.agent_commands import run_command
from steadyrl.environments.dataset.background_loop import BackgroundLoop
from steadyrl.environments.protocol import (
    Episode,
    Outcome,
    Split,
    SupportsTaskCount,
    Task,
    TaskSource,
    as_reward,
)
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.records.tool_calls import ToolSettings

_FUNCTION = re.compile(r"[\w.]+:\w+")


@runtime_checkable
class RunsAgents(Protocol):
    """An environment whose episodes are run by agent programs."""

    @property
    def tools(self) -> ToolSettings:
        """How tools are shown and called."""
        ...

    @property
    def concurrency(self) -> int:
        """Maximum number of programs that run at the same time."""
        ...

    async def run(self, task: Task, access: ModelAccess) -> Outcome | None:
        """Runs the program on a task.

        Returns:
            What the program returned; None: it posts its reward.

        Raises:
            AgentFailedError: it ran too long. Exceptions of the program are passed through.
        """
        ...


class AgentSettings(EnvironmentSettings):
    """An agent program, which calls the model by OpenAI's API as often as it likes.

    Every call becomes a turn of its episode, exactly as it was sampled. Needs the extra `serve`.
    """

    name: Literal["agent"] = "agent"

    program: str = Field(min_length=1)
    """`module:function` that runs an episode. It receives the task and a `ModelAccess`, and returns
    the reward: a number, an `Outcome`, or None if it posts the reward. Coroutine functions share an
    event loop of their own; any other function runs in a thread for each episode.

    Anything else is a command, which is started without a shell for each episode. It reads the task
    as JSON from its input, finds `OPENAI_BASE_URL` and `OPENAI_API_KEY` in its environment, and
    writes the reward as the last line of its output, or posts it."""

    tasks: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:name` of a class or function that makes the tasks: an object with the method
    `task(split, index)`, such as any environment."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the call that makes the tasks."""

    tools: ToolSettings = ToolSettings()

    concurrency: int = Field(64, ge=1)
    """Maximum number of programs that run at the same time."""

    timeout: float = Field(600.0, gt=0.0)
    """Maximum seconds of an episode. An episode that takes longer fails; its other calls are
    refused."""

    def make(self) -> "AgentEnvironment":
        """The environment.

        Raises:
            UserError: the program or the tasks cannot be imported or made.
        """
        program = self._program()
        source = call_named(self.tasks, self.options, given_as="environment.tasks")
        if not isinstance(source, TaskSource):
            raise UserError(
                f"{self.tasks} returned a {type(source).__name__}, which has no tasks. Add the "
                "method task(split, index)."
            )
        return AgentEnvironment(self, program, source)

    @property
    def command(self) -> list[str]:
        """Words of the command; none if the program is a function.

        Raises:
            UserError: the command line cannot be split into words.
        """
        if _FUNCTION.fullmatch(self.program):
            return []
        try:
            return shlex.split(self.program)
        except ValueError as error:
            raise UserError(
                f"environment.program is {self.program!r}: {error}. Correct the quotes."
            ) from error

    def _program(self) -> Callable[..., Any]:
        """What runs an episode.

        Raises:
            UserError: it does not exist.
        """
        if not _FUNCTION.fullmatch(self.program):
            command = self.command
            if not command or shutil.which(command[0]) is None:
                raise UserError(
                    f"environment.program is {self.program!r}, which is neither MODULE:FUNCTION "
                    "nor a command of this machine. Correct it, or install the command."
                )
            return partial(run_command, command)
        program = named_object(self.program, given_as="environment.program")
        if not callable(program):
            raise UserError(f"{self.program} is {program!r:.200}, which is not a function.")
        return program

    @property
    def runs_agents(self) -> bool:
        """True."""
        return True


class AgentEnvironment:
    """Tasks, and the program that plays them."""

    def __init__(
        self, settings: AgentSettings, program: Callable[..., Any], source: TaskSource
    ) -> None:
        self._settings = settings
        self._program = program
        self._source = source
        self.tools = settings.tools
        self.concurrency = settings.concurrency
        self._loop = BackgroundLoop()

    def task(self, split: Split, index: int) -> Task:
        """Task number `index` of `split`."""
        return self._source.task(split, index)

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of tasks in `split`; None if unknown."""
        if not isinstance(self._source, SupportsTaskCount):
            return None
        return self._source.distinct_tasks(split)

    def start(self, task: Task) -> Episode:
        """Raises UserError: the program runs the episode, not the rollout."""
        raise UserError(
            f"Episodes of {self._settings.program} are run by the program itself, which only "
            "training and evaluation can do."
        )

    async def run(self, task: Task, access: ModelAccess) -> Outcome | None:
        """Runs the program on a task, in another thread."""
        given = AgentTask(
            id=task.id,
            messages=[{"role": m.role, "content": m.content} for m in task.prompt],
            data=task.payload,
            tools=list(task.tools),
        )
        limit = self._settings.timeout
        try:
            async with asyncio.timeout(limit) as running:
                returned = await self._call(given, access)
        except TimeoutError as error:
            if not running.expired():
                raise
            raise AgentFailedError(f"the program took more than {limit:g} s") from error
        if returned is None or isinstance(returned, Outcome):
            return returned
        return Outcome(reward=as_reward(returned), terminated=True)

    async def _call(self, task: AgentTask, access: ModelAccess) -> Any:
        call = partial(self._program, task, access)
        if inspect.iscoroutinefunction(self._program):
            # Not in the loop that steps the engine: code that blocks would wait for itself.
            return await asyncio.wrap_future(self._loop.submit(call()))
        return await in_thread(call)

    def close(self) -> None:
        """Ends programs that still run."""
        self._loop.close()
