"""One address of the model for all episodes of verifiers, which keeps a client for each address.

verifiers  -->  relay, whose URL and key never change  -->  base URL and key of the episode
                |
                +--> told apart by the id of the trace, which verifiers sends with each call
"""

import asyncio
import hmac
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from steadyrl.environments.agent_access import ModelAccess

_LARGEST_BODY = 1 << 30


class EpisodeRelay:
    """Passes the calls of traces to the model of their episode. Lives in one event loop.

    verifiers makes an HTTP client for each pair of URL and key, and keeps it until its servers are
    closed. With those of the episode, each episode would leave a connection and its certificates
    behind.
    """

    def __init__(self) -> None:
        self._routes: dict[str, ModelAccess] = {}
        self._key = secrets.token_urlsafe()
        self._variable = f"STEADYRL_RELAY_{secrets.token_hex(8)}"
        self._ready: asyncio.Future[str] | None = None
        self._serving: asyncio.Task[None] | None = None

    async def client(self) -> Any:
        """Where verifiers finds the model, the same for all episodes."""
        from verifiers.v1 import EvalClientConfig

        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._serving = asyncio.ensure_future(self._serve(self._ready))
        url = await asyncio.shield(self._ready)
        return EvalClientConfig(base_url=url, api_key_var=self._variable)

    @contextmanager
    def episode(self, access: ModelAccess) -> Iterator[Callable[[Any], None]]:
        """A function that makes a trace one of the episode, until the episode is over."""
        own: list[str] = []

        def add(trace: Any) -> None:
            own.append(trace.id)
            self._routes[trace.id] = access

        try:
            yield add
        finally:
            for name in own:
                self._routes.pop(name, None)

    async def _serve(self, ready: "asyncio.Future[str]") -> None:
        """Serves until it is canceled."""
        from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

        os.environ[self._variable] = self._key  # verifiers takes keys from there only
        connector, unlimited = TCPConnector(limit=0), ClientTimeout(total=None)
        try:
            async with ClientSession(connector=connector, timeout=unlimited) as session:
                app = web.Application(client_max_size=_LARGEST_BODY)
                app.router.add_post("/v1/{path:.*}", partial(self._pass, session))
                runner = web.AppRunner(
                    app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
                )
                await runner.setup()
                try:
                    site = web.TCPSite(runner, "127.0.0.1", 0)
                    await site.start()
                    ready.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
                    await asyncio.Event().wait()
                finally:
                    await runner.cleanup()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            del os.environ[self._variable]

    async def _pass(self, session: Any, request: Any) -> Any:
        """The model's reply, as it arrives."""
        from aiohttp import ClientConnectionError, web

        access = self._access(request.headers)
        if access is None:
            return _error(404, "The call is of no running episode: its key or trace is unknown.")
        headers = {
            "Authorization": f"Bearer {access.api_key}",
            "Content-Type": request.headers.get("Content-Type", "application/json"),
        }
        url, body = f"{access.base_url}/{request.match_info['path']}", await request.read()
        try:
            reply = await session.post(url, data=body, headers=headers)
        except ClientConnectionError as error:
            return _error(502, f"The model cannot be reached: {error}.")
        async with reply:
            passed = web.StreamResponse(
                status=reply.status, headers={"Content-Type": reply.headers["Content-Type"]}
            )
            await passed.prepare(request)
            async for chunk in reply.content.iter_any():
                await passed.write(chunk)
            await passed.write_eof()
            return passed

    def _access(self, headers: Mapping[str, str]) -> ModelAccess | None:
        """The model of the trace that a call is of; None: there is none, or the key is wrong."""
        from verifiers.v1.clients.client import SESSION_ID_HEADER

        given, expected = headers.get("Authorization", ""), f"Bearer {self._key}"
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return None
        return self._routes.get(headers.get(SESSION_ID_HEADER, ""))


def _error(status: int, message: str) -> Any:
    from aiohttp import web

    return web.json_response({"error": {"message": message}}, status=status)
