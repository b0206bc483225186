"""Many sessions at the same time, with clients that leave and read slowly, in a short form."""

import asyncio
import random
import time
from typing import Any

import httpx2 as httpx
import pytest
from benchmarks.gateway_fuzz import MODEL
from benchmarks.gateway_load import Client, Tally, unfinished

from steadyrl.policies.policy import Policy
from tests.gateway.serving import local_engine, make_app, served
from tests.rollout.fakes import ScriptedEngine


async def load(url: str, *, sessions: int, seconds: float) -> Tally:
    tally, until = Tally(), time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=60) as http, unfinished(url, 4):
        clients = [
            Client(http=http, draws=random.Random(number), tally=tally, tool_seconds=0.05)
            for number in range(sessions)
        ]
        await asyncio.gather(*(one.live(number, until) for number, one in enumerate(clients)))
    return tally


def check(app: Any, *, sessions: int, seconds: float) -> None:
    app.gateway.model = MODEL
    with served(app) as server:
        tally = asyncio.run(load(server.url, sessions=sessions, seconds=seconds))
        deadline = time.monotonic() + 30
        while app.running and time.monotonic() < deadline:
            time.sleep(0.02)

    assert tally.wrong == []
    assert tally.counts["sessions"] >= sessions
    assert min(tally.counts[name] for name in ("disconnects", "slow_streams", "calls")) > 0
    assert app.running == 0
    assert app.gateway.sessions == {}


def test_sessions_are_recorded_as_clients_see_them() -> None:
    check(make_app(ScriptedEngine(lambda *_: "7")), sessions=16, seconds=0.2)


@pytest.mark.slow
def test_sessions_of_a_real_engine_are_recorded_as_clients_see_them(dense_policy: Policy) -> None:
    app = make_app(local_engine(dense_policy), dense_policy.tokenizer)
    check(app, sessions=64, seconds=5.0)


def row(*texts: str, sampled: str) -> Any:
    """Messages of one token each; `sampled` has an x for each that the row sampled."""
    roles = ("user", "assistant", "tool", "assistant")
    return {
        "messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)],
        "token_ids": [hash(text) for text in texts],
        "sampled": [mark == "x" for mark in sampled],
    }


ANOTHER = row("I am s1.", "a", "s1 turn 0", "c", sampled=".x.x")
"""What the client saw, but for an answer that it did not wait for."""


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([row("I am s1.", "a", "s1 turn 0", "b", sampled=".x.x")], ""),
        ([ANOTHER, row("I am s1.", "a", "s1 turn 0", "b", sampled="...x")], ""),
        ([ANOTHER], "s1: the server has no row of what the client saw"),
        ([row("I am s1.", "a", "s1 turn 0", "b", sampled=".xxx")], "s1: 3 tokens, 2 acknowledged"),
        ([row("I am s1.", "a", "s1 turn 0", "b", sampled="...x")], "s1: 1 tokens, 2 acknowledged"),
        ([row("I am s2.", "a", sampled=".x")], "s1: texts of another session"),
    ],
)
def test_what_must_not_happen_is_noticed(rows: Any, wrong: str) -> None:
    tally = Tally()
    client = Client(http=httpx.AsyncClient(), draws=random.Random(0), tally=tally, tool_seconds=0.0)
    said = [{"content": text} for text in ("I am s1.", "a", "s1 turn 0", "b")]
    client.check("s1", {"rows": rows}, said, 2)

    assert wrong in tally.wrong if wrong else tally.wrong == []
