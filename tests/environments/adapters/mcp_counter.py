"""A server of the official package over standard input and output, for tests."""

import os
import time

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("counter")
total = 0


@server.tool()
def add(number: int) -> str:
    """Adds to the total."""
    global total
    total += number
    return f"the total is {total}"


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ToolError("no luck")


@server.tool()
def sleep() -> str:
    """Takes long."""
    time.sleep(20)
    return "awake"


@server.tool()
def quit_now() -> str:
    """Ends the server."""
    os._exit(3)


if __name__ == "__main__":
    server.run()
