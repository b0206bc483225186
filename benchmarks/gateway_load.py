"""The gateway under load: sessions with tools that sleep, clients that leave, malformed requests.

    python benchmarks/gateway_load.py --out benchmarks/results/gateway_load.json     # 15 minutes

`steadyrl serve` runs in a process of its own with a small dense model; clients and server share the
cores that this command may use. Three phases, each against the same server:

sessions    so many at the same time, each with turns and sleeps in between. Some clients leave in
            the middle of a call and ask again, some read streams slowly, some never finish a
            request. At the end of each session, what the server has recorded is compared with what
            the client has seen: the same texts, and each acknowledged token once.
fuzz        malformed requests (`gateway_fuzz.py`). A reply is wrong if its status is 5xx or another
            that the server does not have, or if an error is not in OpenAI's schema.
health      the server still answers, nothing is running, and its memory is what it was.
"""

import asyncio
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2 as httpx
import psutil
from gateway_fuzz import MODEL, requests, wrong_reply

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallDense
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import as_json, manifest

MEBIBYTE = 1 << 20
PATIENCE = 660
"""Seconds after which a reply counts as lost: the server's own limit and a minute."""

_SERVE = "import sys; from steadyrl.cli.main import main; sys.exit(main(sys.argv[1:]))"


class Options(Settings):
    """Load the gateway."""

    sessions: int = 256
    """Sessions at the same time."""

    seconds: float = 600.0
    """Seconds of the first phase."""

    fuzzed: int = 10_000
    """Malformed requests."""

    tool_seconds: float = 2.0
    """Longest sleep of a tool."""

    seed: int = 0
    """Seed of all clients."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


@dataclass(slots=True, kw_only=True)
class Served:
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """Runs `steadyrl serve` with a small model until the end of the block."""
    checkpoint = folder / MODEL
    if not checkpoint.exists():
        settings = SmallDense(width=32, layers=2, heads=2, kv_heads=1, head_dim=16, mlp_width=64)
        tokenizer = load_tokenizer(settings)
        load_model(settings, tokenizer=tokenizer, seed=0).save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
    limits = ("--limits.max-requests", "1024", "--limits.max-sessions", "4096")
    plain = ("--tools.shown", "message", "--sampling.max-new-tokens", "24")
    command = [sys.executable, "-c", _SERVE, "serve", str(checkpoint), "--port", "0"]
    process = subprocess.Popen(
        [*command, *plain, *limits, *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        url = line.strip().rpartition(" ")[2].removesuffix("/v1")
        yield Served(url=url, process=process)
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


@dataclass(slots=True, kw_only=True)
class Tally:
    """What clients have seen."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Duration of each call that was answered."""

    wrong: list[str] = field(default_factory=list)
    """What must not happen."""

    def to_json(self) -> dict[str, object]:
        """The numbers."""
        ordered = sorted(self.seconds)
        shares = {"median": 0.5, "p99": 0.99, "max": 1.0}
        return {
            **dict(sorted(self.counts.items())),
            "call_seconds": {
                name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
                for name, share in shares.items()
                if ordered
            },
            "wrong": len(self.wrong),
            "first_wrong": self.wrong[:5],
        }


@dataclass(slots=True, kw_only=True)
class Client:
    """One agent after another."""

    http: httpx.AsyncClient
    draws: random.Random
    tally: Tally
    tool_seconds: float

    async def live(self, number: int, until: float) -> None:
        """Sessions until the time is over, at least one."""
        for count in itertools.count():
            try:
                await self.session(f"s{number}-{count}")
            except httpx.HTTPError as error:
                self.tally.wrong.append(f"s{number}-{count}: {error!r}")
            if time.monotonic() >= until:
                break

    async def session(self, name: str) -> None:
        """A session, and the comparison of what both sides know of it."""
        said: list[dict[str, str]] = [{"role": "user", "content": f"I am {name}."}]
        acknowledged = 0
        for turn in range(self.draws.randint(2, 6)):
            reply = await self.call(name, said)
            if reply is None:
                return
            text, tokens = reply
            acknowledged += tokens
            said.append({"role": "assistant", "content": text})
            await asyncio.sleep(self.draws.random() * self.tool_seconds)
            said.append({"role": "tool", "content": f"{name} turn {turn}"})
        recorded = (await self.http.get(f"/sessions/{name}")).json()
        self.check(name, recorded, said[:-1], acknowledged)
        await self.http.delete(f"/sessions/{name}")
        self.tally.counts["sessions"] += 1

    async def call(self, name: str, said: Sequence[Any]) -> tuple[str, int] | None:
        """Text and number of tokens of an answer; None: there is none."""
        path = f"/sessions/{name}/v1/chat/completions"
        body = {"model": MODEL, "messages": said}
        how = self.draws.choices(["plain", "leave", "slow"], [0.8, 0.1, 0.1])[0]
        if how == "leave":
            await self.leave(path, body)
        started = time.monotonic()
        if how == "slow":
            return await self.read_slowly(path, body)
        reply = await self.http.post(path, json=body)
        if reply.status_code != 200:
            self.tally.wrong.append(f"{name}: {reply.status_code} {reply.text[:200]}")
            return None
        self.tally.seconds.append(time.monotonic() - started)
        self.tally.counts["calls"] += 1
        answer = reply.json()
        return answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]

    async def leave(self, path: str, body: Any) -> None:
        """Disconnects before the answer, or just after it."""
        asking = asyncio.ensure_future(self.http.post(path, json=body))
        await asyncio.wait((asking,), timeout=self.draws.random() * 0.05)
        asking.cancel()
        await asyncio.wait((asking,))
        self.tally.counts["disconnects"] += 1

    async def read_slowly(self, path: str, body: Any) -> tuple[str, int] | None:
        """A stream, a line after the other with pauses."""
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        text, tokens = "", 0
        async with self.http.stream("POST", path, json=asked) as reply:
            async for line in reply.aiter_lines():
                await asyncio.sleep(self.draws.random() * 0.1)
                if line.startswith("data: {"):
                    chunk = httpx.Response(200, content=line.removeprefix("data: ")).json()
                    text += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
                    tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        self.tally.counts["slow_streams"] += 1
        return text, tokens

    def check(self, name: str, recorded: Any, said: Sequence[Any], acknowledged: int) -> None:
        """Compares the recorded session with what the client has seen."""
        held = [[m["content"] for m in row["messages"]] for row in recorded["rows"]]
        seen = [message["content"] for message in said]
        if seen not in held:
            self.tally.wrong.append(f"{name}: the server has no row of what the client saw")
        roles = ("user", "tool")
        own = [
            m["content"] for row in recorded["rows"] for m in row["messages"] if m["role"] in roles
        ]
        if not all(f"{name}." in text or f"{name} turn" in text for text in own):
            self.tally.wrong.append(f"{name}: texts of another session")
        if seen in held:
            sampled = num_sampled(recorded["rows"], recorded["rows"][held.index(seen)])
            if sampled != acknowledged:
                self.tally.wrong.append(f"{name}: {sampled} tokens, {acknowledged} acknowledged")


def num_sampled(rows: Sequence[Any], row: Any) -> int:
    """Number of sampled tokens in `row`, some of which may be recorded in the row it branched from.

    A client that leaves just after its answer is complete, and asks again, gets another answer.
    That begins a new row, in which the tokens before it are part of the prompt.
    """
    ids = row["token_ids"]
    return sum(
        any(r["token_ids"][: n + 1] == ids[: n + 1] and r["sampled"][n] for r in rows)
        for n in range(len(ids))
    )


@asynccontextmanager
async def unfinished(url: str, count: int) -> AsyncIterator[None]:
    """Connections whose requests never end."""
    host, _, port = url.removeprefix("http://").partition(":")
    writers = []
    for number in range(count):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"[: 9 + number]
        )
        writers.append(writer)
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def sessions(served: Served, options: Options) -> dict[str, object]:
    """The first phase, with the memory of the server over time."""
    tally, draws = Tally(), random.Random(options.seed)
    until = time.monotonic() + options.seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=options.sessions)
    memory: list[float] = []

    async def watch() -> None:
        while time.monotonic() < until:
            memory.append(round(served.memory / MEBIBYTE, 1))
            await asyncio.sleep(options.seconds / 20)

    async with (
        httpx.AsyncClient(base_url=served.url, timeout=PATIENCE, limits=limits) as http,
        unfinished(served.url, 16),
    ):
        clients = [
            Client(
                http=http,
                draws=random.Random(draws.random()),
                tally=tally,
                tool_seconds=options.tool_seconds,
            )
            for _ in range(options.sessions)
        ]
        living = (client.live(number, until) for number, client in enumerate(clients))
        await asyncio.gather(watch(), *living)
    return {**tally.to_json(), "server_mebibytes": memory}


async def fuzz(served: Served, options: Options) -> dict[str, object]:
    """The second phase."""
    tally, slots = Tally(), asyncio.Semaphore(32)
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as http:

        async def send(one: Any) -> None:
            async with slots:
                started = time.monotonic()
                try:
                    reply = await http.request(
                        one.method, one.path, content=one.content, headers=one.encoded_headers
                    )
                except httpx.HTTPError as error:
                    tally.wrong.append(f"{one.kind} {one.path}: {error!r}")
                    return
            tally.seconds.append(time.monotonic() - started)
            tally.counts[f"status_{reply.status_code}"] += 1
            if wrong := wrong_reply(reply.status_code, reply.content):
                tally.wrong.append(f"{one.kind} {one.path} {one.content[:200]!r}: {wrong}")

        await asyncio.gather(*map(send, requests(options.seed, options.fuzzed)))
    return tally.to_json()


async def health(served: Served) -> dict[str, object]:
    """What the server says of itself once nobody asks."""
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        healthy = (await http.get("/health")).json()
        lines = (await http.get("/metrics")).text.splitlines()
    numbers = dict(line.split() for line in lines)
    running = float(numbers["steadyrl_running_requests"])
    return {**healthy, "running": running, "server_mebibytes": round(served.memory / MEBIBYTE, 1)}


def measure(options: Options) -> Iterator[dict[str, object]]:
    """The numbers after each phase."""
    found: dict[str, object] = {
        **manifest(options.seed),
        "options": options.model_dump(mode="json"),
        "cores": len(psutil.Process().cpu_affinity()),
    }
    with TemporaryDirectory() as folder, serving(Path(folder)) as served:
        for name, phase in {"sessions": sessions, "fuzz": fuzz}.items():
            before, started = psutil.Process(served.process.pid).cpu_times(), time.monotonic()
            found[name] = asyncio.run(phase(served, options))
            after = psutil.Process(served.process.pid).cpu_times()
            found[f"after_{name}"] = {
                **asyncio.run(health(served)),
                "seconds": round(time.monotonic() - started, 1),
                "server_processor_seconds": round(
                    after.user + after.system - before.user - before.system, 1
                ),
            }
            yield found


def main(options: Options) -> None:
    """Prints the numbers and writes them, after each phase."""
    for found in measure(options):
        print(as_json(found))
        if options.out is not None:
            write_atomically(options.out, as_json(found))


if __name__ == "__main__":
    main(script_options(Options))
