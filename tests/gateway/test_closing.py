"""The end of a server: what it leaves open."""

import asyncio
import gc
import socket
import warnings

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from steadyrl.gateway.server import serving

LONG = 64 << 20
"""Bytes of a reply that does not fit into the buffers of a connection."""


async def _long_reply(request: Request) -> Response:
    return PlainTextResponse("x" * LONG)


async def _serve_a_client_that_does_not_read() -> socket.socket:
    app = Starlette(routes=[Route("/", _long_reply)])
    async with serving(app, host="127.0.0.1", port=0) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        client = socket.create_connection((host, int(port)))
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.to_thread(client.recv, 1)
    return client


def test_a_client_that_does_not_read_leaves_no_open_connection() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        client = asyncio.run(_serve_a_client_that_does_not_read())
        gc.collect()
    client.close()

    assert [str(warning.message) for warning in caught] == []
