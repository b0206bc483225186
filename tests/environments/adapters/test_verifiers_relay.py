"""The relay between verifiers and the gateway, with a model that streams, and with none."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("verifiers", minversion="0.4")
pytestmark = [pytest.mark.adapters, pytest.mark.filterwarnings("default")]

from aiohttp import ClientSession, web  # noqa: E402
from verifiers.v1.clients.client import SESSION_ID_HEADER  # noqa: E402

from steadyrl.environments.adapters.verifiers_relay import EpisodeRelay  # noqa: E402
from steadyrl.environments.agent_access import ModelAccess  # noqa: E402


@dataclass(frozen=True)
class Trace:
    """What the relay reads of a trace of verifiers."""

    id: str


async def model(request: web.Request) -> web.StreamResponse:
    """A reply in two pieces: the key that it was asked with, and what was sent."""
    reply = web.StreamResponse(status=418, headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    await reply.write(request.headers["Authorization"].encode() + b"\n")
    await asyncio.sleep(0.01)
    await reply.write(request.path.encode() + await request.read())
    return reply


def with_model(check: Callable[[EpisodeRelay, Any, ModelAccess], Awaitable[None]]) -> None:
    """Runs `check` with a relay, its client, and a model behind it."""

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", model)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        relay = EpisodeRelay()
        access = ModelAccess(
            base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/sessions/e/v1",
            api_key="own",
            model="policy",
        )
        try:
            await check(relay, await relay.client(), access)
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await runner.cleanup()

    asyncio.run(run())


async def ask(client: Any, trace: str, key: str | None = None) -> tuple[int, str]:
    """Status and body of a call of `trace`."""
    key = os.environ[client.api_key_var] if key is None else key
    headers = {"Authorization": f"Bearer {key}", SESSION_ID_HEADER: trace}
    async with (
        ClientSession() as session,
        session.post(f"{client.base_url}/chat/completions", data=b"{}", headers=headers) as reply,
    ):
        return reply.status, await reply.text()


def test_a_call_of_a_trace_reaches_the_model_of_its_episode_and_streams_back() -> None:
    async def check(relay: EpisodeRelay, client: Any, access: ModelAccess) -> None:
        with relay.episode(access) as add:
            add(Trace("a"))
            found = await ask(client, "a")
        assert found == (418, "Bearer own\n/sessions/e/v1/chat/completions{}")

    with_model(check)


def test_calls_without_the_key_or_of_no_running_episode_are_refused() -> None:
    async def check(relay: EpisodeRelay, client: Any, access: ModelAccess) -> None:
        with relay.episode(access) as add:
            add(Trace("a"))
            refused = [await ask(client, "a", key="wrong"), await ask(client, "b")]
        refused.append(await ask(client, "a"))
        for status, body in refused:
            assert status == 404
            assert "of no running episode" in json.loads(body)["error"]["message"]

    with_model(check)


def test_a_model_that_has_gone_is_an_error_of_the_server() -> None:
    async def check(relay: EpisodeRelay, client: Any, access: ModelAccess) -> None:
        with relay.episode(
            ModelAccess(base_url="http://127.0.0.1:9/v1", api_key="", model="")
        ) as add:
            add(Trace("a"))
            status, body = await ask(client, "a")
        assert status == 502
        assert "cannot be reached" in json.loads(body)["error"]["message"]

    with_model(check)


def test_the_key_leaves_the_environment_with_the_relay() -> None:
    async def run() -> str:
        relay = EpisodeRelay()
        client = await relay.client()
        assert (await relay.client()) == client
        assert client.api_key_var in os.environ
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return str(client.api_key_var)

    assert asyncio.run(run()) not in os.environ
