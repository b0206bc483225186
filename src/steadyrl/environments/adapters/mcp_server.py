"""A connection to an MCP server, and its tools."""

import asyncio
from concurrent.futures import Future
from typing import Any

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.extras import require_extra
from steadyrl.environments.adapters.time_limits import SlowCallError
from steadyrl.environments.adapters.tool_turns import ToolError
from steadyrl.environments.dataset.background_loop import BackgroundLoop


class MCPServer:
    """A connection to an MCP server, which is a process of ours or listens at a URL.

    Args:
        target: Command with its arguments, or URL.
        variables: Environment variables of the process, besides `PATH`, `HOME` and the like.
        timeout: Maximum seconds to connect, and of a call.
        loop: Event loop in which the connection lives.

    Raises:
        UserError: the server cannot be started or reached, or `mcp` is not installed.
    """

    def __init__(
        self,
        target: tuple[str, ...] | str,
        *,
        variables: dict[str, str],
        timeout: float,
        loop: BackgroundLoop,
    ) -> None:
        self.ended = False
        self._name = target if isinstance(target, str) else " ".join(target)
        self.timeout = timeout
        self._loop = loop
        connected: Future[list[Any]] = Future()
        self._client = _client(target, variables)
        self._life = loop.submit(self._live(connected))
        try:
            listed = connected.result(timeout=timeout)
        except Exception as error:
            self.close()
            late = isinstance(error, TimeoutError)
            reason = f"no answer within {timeout:g} s" if late else describe_error(_first(error))
            raise UserError(
                f"The MCP server {self._name} cannot be used: {reason}. Check "
                "environment.command or environment.url."
            ) from error
        self.schemas = tuple(map(_schema, listed))
        """Schemas of the tools, as chat templates take them."""

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Result of a tool as text; also of one that reports an error.

        Raises:
            ToolError: the server refuses the call.
            SlowCallError: there is no result within the limit.
            ConnectionError: the server has ended.
        """
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        answer = asyncio.wrap_future(self._loop.submit(self._client.call_tool(name, arguments)))
        try:
            result = await asyncio.wait_for(answer, self.timeout)
        except TimeoutError as error:
            raise SlowCallError(
                f"the tool {name} took more than {self.timeout:g} s. Raise environment.timeout "
                "if it may"
            ) from error
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                raise ToolError(error.message) from error
            self.ended = True
            raise ConnectionError(f"the MCP server {self._name} has ended") from error
        return "\n".join(getattr(part, "text", f"[{part.type}]") for part in result.content)

    def close(self) -> None:
        """Ends the connection, and the process. Does not wait for it."""
        self.ended = True
        self._life.cancel()

    async def _live(self, connected: "Future[list[Any]]") -> None:
        """Holds the connection, which must end in the task in which it began."""
        try:
            async with self._client as client:
                connected.set_result((await client.list_tools()).tools)
                await asyncio.Event().wait()
        except Exception as error:
            if connected.done():
                raise
            connected.set_exception(error)


def _client(target: tuple[str, ...] | str, variables: dict[str, str]) -> Any:
    require_extra("mcp", "mcp")
    try:
        from mcp import Client, StdioServerParameters
    except ImportError as error:
        raise UserError(
            "The installed version of mcp is older than 2. Run: pip install 'steadyrl[mcp]'"
        ) from error
    if isinstance(target, str):
        return Client(target)
    command, *arguments = target
    return Client(StdioServerParameters(command=command, args=arguments, env=variables))


def _schema(tool: Any) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema,
    }
    return {"type": "function", "function": function}


def _first(error: BaseException) -> BaseException:
    """The first exception of a group, which task groups raise."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
