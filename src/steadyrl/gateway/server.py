"""The gateway's HTTP server, in the event loop that steps the engine.

One thread does everything: while no request can be read or answered, the engine computes a step for
all requests that wait, and new ones join between two steps.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address

import uvicorn
from starlette.applications import Starlette

from steadyrl.base.errors import UserError
from steadyrl.base.garbage import heap_left_alone

BACKLOG = 2048

KEEP_ALIVE = 75
"""Seconds before an idle connection is closed. HTTP clients close theirs after 5 seconds or so; a
server that is not clearly later closes some just as they are used again."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


@asynccontextmanager
async def serving(app: Starlette, *, host: str, port: int) -> AsyncIterator[str]:
    """Serves `app` and gives its URL. Port 0 is any free port.

    Raises:
        UserError: the address cannot be used.
    """
    listener = _listener(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serve = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        while not server.started and not serve.done():
            await asyncio.sleep(0.001)
        with heap_left_alone():
            yield url
    finally:
        server.should_exit = True
        await serve
        await _drop_connections(server)


async def _drop_connections(server: uvicorn.Server) -> None:
    """Closes the connections whose requests did not end within the time for a graceful shutdown."""
    for connection in list(server.server_state.connections):
        if connection.transport is not None:
            connection.transport.abort()
    await asyncio.sleep(0)  # sockets are closed in the next iteration of the loop


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"Cannot listen at {host}:{port}: {getattr(error, 'strerror', None) or error}. Choose "
            "another --port or --host."
        ) from error
    listener.listen(BACKLOG)
    return listener
