"""A server that is killed has stored every answer that a client has received."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from steadyrl.live.settings import write_live_config
from tests.live.sessions import tiny_live
from tests.live.test_command import lines_until

KILLS = 3
CLIENTS = 32

Answered = list[tuple[str, str, int]]
"""Session, text and number of tokens of each answer that arrived."""


async def talk(http: httpx.AsyncClient, name: str, answered: Answered) -> None:
    """Calls of one session until the server is gone."""
    said: list[Any] = [{"role": "user", "content": "1+2="}]
    while True:
        path = f"/sessions/{name}/v1/chat/completions"
        try:
            reply = await http.post(path, json={"model": "live", "messages": said[-3:]})
        except httpx.TransportError:
            return
        assert reply.status_code == 200, reply.text
        body = reply.json()
        text = body["choices"][0]["message"]["content"]
        answered.append((name, text, body["usage"]["completion_tokens"]))
        said += [{"role": "assistant", "content": text}, {"role": "user", "content": "1+1="}]


async def load(process: Any, url: str, names: list[str], answers: int) -> Answered:
    """Answers that arrived before the server was killed, after so many of them."""
    answered: Answered = []

    async def kill() -> None:
        while len(answered) < answers:
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        await asyncio.gather(kill(), *(talk(http, name, answered) for name in names))
    return answered


@pytest.mark.slow
def test_no_answer_that_arrived_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "live.yaml"
    file.write_text(write_live_config(tiny_live(tmp_path)))
    command = [sys.executable, "-m", "steadyrl.cli.main", "live", str(file), "--role", "server"]
    command += ["--out", str(tmp_path / "live"), "--port", "0"]
    draws, answered = random.Random(0), Answered()
    for death in range(KILLS):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        try:
            url = lines_until(process, r"at (http://\S+)/v1")[1]
            names = [f"death-{death}-{number}" for number in range(CLIENTS)]
            answered += asyncio.run(load(process, url, names, draws.randint(40, 160)))
        finally:
            process.kill()
            process.communicate(timeout=60)

    stored = _stored(tmp_path / "live" / "sessions.sqlite")
    print(f"{len(answered)} answers before {KILLS} deaths, {len(stored)} stored")
    assert len(answered) >= 40 * KILLS
    for one in answered:
        assert one in stored
        stored.remove(one)  # each answer has a turn of its own


def _stored(file: Path) -> Answered:
    connection = sqlite3.connect(file)
    try:
        found = connection.execute("SELECT session, messages, tokens FROM turns").fetchall()
    finally:
        connection.close()
    rows = [(name, json.loads(messages), json.loads(tokens)) for name, messages, tokens in found]
    return [(name, said[-1][1], len(tokens["token_ids"])) for name, said, tokens in rows]
