"""Tools of an MCP server in the episodes of any environment.

turn with calls     the server's tools are called; the model reads the results, or the errors
turn without calls  is the answer, which the environment judges
"""

import weakref
from collections.abc import Sequence
from threading import Lock
from typing import Any, Literal

from pydantic import Field, model_validator

from steadyrl.base.concurrency import await_if_needed, in_thread
from steadyrl.base.errors import UserError
from steadyrl.base.named_object import call_named
from steadyrl.base.text import nearest_or_all
from steadyrl.environments.adapters.mcp_server import MCPServer
from steadyrl.environments.adapters.tool_turns import ToolError, arguments_of, calls_of
from steadyrl.environments.dataset.background_loop import BackgroundLoop
from steadyrl.environments.protocol import (
    Closable,
    Environment,
    Episode,
    Outcome,
    Split,
    SupportsGroupScores,
    SupportsTaskCount,
    Task,
)
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.records.message import Message
from steadyrl.records.tool_calls import ToolCall, ToolSettings, with_tools

Schema = dict[str, Any]


class MCPSettings(EnvironmentSettings):
    """Tools of an MCP server in the episodes of any environment."""

    name: Literal["mcp"] = "mcp"

    tasks: str = Field(pattern=r"^[\w.]+:\w+$")
    """`module:name` of the environment that asks and judges: a class or function that makes it, or
    its settings class."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of that call."""

    command: tuple[str, ...] = ()
    """Command that starts the server, which speaks over standard input and output."""

    variables: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the server. It sees no others but `PATH`, `HOME` and the like."""

    url: str | None = Field(None, pattern=r"^https?://")
    """URL of a running server, instead of a command."""

    allowed: tuple[str, ...] = ()
    """Names of the tools that the model may use. Empty: all."""

    server_per_episode: bool = False
    """Connect anew in each episode, and start a process for each if there is a command: for servers
    with state."""

    calls: int = Field(8, ge=1)
    """Maximum number of turns that call tools. A later one is taken as the answer."""

    timeout: float = Field(60.0, gt=0.0)
    """Maximum seconds to connect, and of a call. An episode with a slower call fails."""

    tools: ToolSettings = ToolSettings()

    @model_validator(mode="after")
    def _check_server(self) -> "MCPSettings":
        if bool(self.command) == (self.url is not None):
            raise ValueError("set either command or url, to say which server it is")
        return self

    @property
    def max_turns(self) -> int:
        """Turns that call tools, and one that answers."""
        return self.calls + 1

    def make(self) -> "MCPTools":
        """The environment.

        Raises:
            UserError: the tasks cannot be made, or the server cannot be used.
        """
        inner = call_named(self.tasks, self.options, given_as="environment.tasks")
        if isinstance(inner, EnvironmentSettings):
            inner = inner.make()
        if not isinstance(inner, Environment):
            raise UserError(
                f"{self.tasks} returned a {type(inner).__name__}, which is not an environment. "
                "Add the methods task(split, index) and start(task)."
            )
        return (ComparingMCPTools if isinstance(inner, SupportsGroupScores) else MCPTools)(
            self, inner
        )


class MCPTools:
    """An environment, and a server whose tools may be called before its answers."""

    def __init__(self, settings: MCPSettings, inner: Environment) -> None:
        self._settings = settings
        self._inner = inner
        self._loop = BackgroundLoop()
        self._lock = Lock()
        try:
            self._server = self.connect()
            self._schemas = chosen(self._server.schemas, settings.allowed)
        except BaseException:
            self.close()
            raise

    def task(self, split: Split, index: int) -> Task:
        """Task number `index` of `split`, with the schemas of the tools."""
        task = self._inner.task(split, index)
        prompt, tools = with_tools(task.prompt, self._schemas, self._settings.tools)
        return Task(id=task.id, prompt=tuple(prompt), payload=task, tools=(*task.tools, *tools))

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of tasks in `split`; None if unknown."""
        if not isinstance(self._inner, SupportsTaskCount):
            return None
        return self._inner.distinct_tasks(split)

    def start(self, task: Task) -> Episode:
        """Starts an attempt."""
        return _ToolEpisode(self, self._inner.start(task.payload), self._settings)

    def connect(self) -> MCPServer:
        """A new connection.

        Raises:
            UserError: the server cannot be started or reached.
        """
        settings = self._settings
        return MCPServer(
            settings.url or settings.command,
            variables=settings.variables,
            timeout=settings.timeout,
            loop=self._loop,
        )

    def server(self) -> MCPServer:
        """The connection that episodes share. One that is lost is made again.

        Raises:
            UserError: the server cannot be started or reached.
        """
        with self._lock:
            if self._server.ended:
                self._server = self.connect()
            return self._server

    def close(self) -> None:
        """Ends the servers, and closes the environment."""
        self._loop.close()
        if isinstance(self._inner, Closable):
            self._inner.close()

    @property
    def names(self) -> frozenset[str]:
        """Names of the tools that the model may use."""
        return frozenset(schema["function"]["name"] for schema in self._schemas)


def chosen(schemas: Sequence[Schema], allowed: Sequence[str]) -> tuple[Schema, ...]:
    """Schemas of the tools with the names `allowed`; all of them if that is empty.

    Raises:
        UserError: there are none, or one of the names is unknown.
    """
    if not schemas:
        raise UserError("The MCP server has no tools. Check which server is started.")
    by_name = {schema["function"]["name"]: schema for schema in schemas}
    for name in allowed:
        if name not in by_name:
            hint = nearest_or_all(name, sorted(by_name), "It has")
            raise UserError(f"The MCP server has no tool {name!r}. {hint}")
    return tuple(by_name[name] for name in allowed or by_name)


class ComparingMCPTools(MCPTools):
    """The same around an environment whose rewards compare the episodes of a task."""

    _inner: Any

    def score_group(self, group: Any) -> Any:
        """Rewards of the trajectories in `group`."""
        return self._inner.score_group(group)


class _ToolEpisode:
    """An attempt whose turns call tools until one answers."""

    def __init__(self, environment: MCPTools, inner: Episode, settings: MCPSettings) -> None:
        self._environment = environment
        self._inner = inner
        self._form = settings.tools
        self._left = settings.calls
        self._own = settings.server_per_episode
        self._server: MCPServer | None = None

    async def respond(self, text: str) -> Outcome:
        """Results of the turn's calls, or the outcome of the answer."""
        calls = calls_of(text, self._form) if self._left else ()
        if not calls:
            return await await_if_needed(self._inner.respond(text))
        self._left -= 1
        results = [Message(role="tool", content=await self._result(call)) for call in calls]
        return Outcome(reward=0.0, terminated=False, observation=tuple(results))

    async def _result(self, call: ToolCall) -> str:
        """What the model reads of a call."""
        try:
            if call.name not in self._environment.names:
                raise ToolError(f"There is no tool {call.name}.")
            arguments = arguments_of(call)
            if self._server is None:
                self._server = await self._connect()
            return await self._server.call(call.name, arguments)
        except ToolError as error:
            return f"error: {error}"

    async def _connect(self) -> MCPServer:
        if not self._own:
            return await in_thread(self._environment.server)
        server = await in_thread(self._environment.connect)
        weakref.finalize(self, server.close)
        return server
