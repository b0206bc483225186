"""Fuzzed requests get an error in OpenAI's schema, never a failure of the server."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from benchmarks.gateway_fuzz import MODEL, Fuzzed, requests, wrong_reply

from tests.gateway.serving import Served, make_app, served
from tests.rollout.fakes import ScriptedEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    app = make_app(ScriptedEngine(lambda prompt, number, call: "7"))
    app.gateway.model = MODEL
    with served(app) as running:
        yield running


async def replies(url: str, fuzzed: list[Fuzzed]) -> list[str]:
    """What is wrong with the reply to each request."""
    slots = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def send(one: Fuzzed) -> str:
            async with slots:
                reply = await client.request(
                    one.method, one.path, content=one.content, headers=one.encoded_headers
                )
            wrong = wrong_reply(reply.status_code, reply.content)
            return f"{one.kind} {one.path} {one.content[:200]!r}: {wrong}" if wrong else ""

        return await asyncio.gather(*map(send, fuzzed))


@pytest.mark.parametrize(
    "count", [pytest.param(150, id="short"), pytest.param(2500, id="long", marks=pytest.mark.slow)]
)
def test_fuzzed_requests_get_errors_and_nothing_else(server: Served, count: int) -> None:
    fuzzed = list(requests(count, count))

    wrong = [found for found in asyncio.run(replies(server.url, fuzzed)) if found]

    assert not wrong, wrong[:5]
    assert min(Counter(one.kind for one in fuzzed).values()) >= 5
    assert server.get("/health").status_code == 200
    assert server.app.running == 0


def test_a_seed_gives_the_same_requests() -> None:
    assert list(requests(3, 50)) == list(requests(3, 50))


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (500, b"{}", "status 500"),
        (400, b"oops", "without OpenAI's error"),
        (404, b'{"error": {"message": "a"}}', "with the error"),
        (200, b"", ""),
    ],
)
def test_a_wrong_reply_is_noticed(status: int, body: bytes, wrong: str) -> None:
    assert wrong_reply(status, body).startswith(wrong) or wrong in wrong_reply(status, body)
