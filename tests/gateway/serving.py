"""A gateway behind a real server on a free port, in a thread, and official clients of it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import openai
from transformers import PreTrainedTokenizerBase

from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.gateway.access import SessionAccess
from steadyrl.gateway.app import GatewayApp
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.limits import LimitSettings
from steadyrl.gateway.server import serving
from steadyrl.gateway.sessions import SessionRules
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.tool_calls import ToolSettings
from tests.rollout.fakes import TOKENIZER

MODEL = "tiny"
CLIENT = openai.OpenAI(base_url="http://unused", api_key="none", max_retries=0)
HIDDEN_TOOLS = ToolSettings(shown="none", calls="json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server."""

    url: str
    app: GatewayApp
    loop: asyncio.AbstractEventLoop

    @property
    def gateway(self) -> Gateway:
        return self.app.gateway

    def client(self, session: str = "", **options: Any) -> Any:
        """An official client, of a session or of none."""
        base = f"{self.url}/sessions/{session}/v1" if session else f"{self.url}/v1"
        return CLIENT.with_options(**{"base_url": base, **options})

    def post(self, path: str, **options: Any) -> Any:
        return httpx.post(f"{self.url}{path}", timeout=60, **options)

    def get(self, path: str, **options: Any) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=60, **options)


def make_app(engine: Engine, tokenizer: PreTrainedTokenizerBase = TOKENIZER, **parts: Any) -> Any:
    """The app of a gateway in front of `engine`."""
    gateway = Gateway(
        engine=engine,
        tokenizer=tokenizer,
        vocabulary_size=len(tokenizer),
        model=MODEL,
        rules=parts.pop("rules", SessionRules(sampling=Sampling(max_new_tokens=16))),
        tools=parts.pop("tools", HIDDEN_TOOLS),
    )
    limits = parts.pop("limits", LimitSettings())
    return GatewayApp(access=SessionAccess(gateway=gateway, limits=limits, **parts))


@contextmanager
def served(app: GatewayApp) -> Iterator[Served]:
    """Runs the server until the end of the block."""
    ready, started, ends = threading.Event(), [], asyncio.Event()

    async def run() -> None:
        async with serving(app.starlette(), host="127.0.0.1", port=0) as url:
            started.append(Served(url=url, app=app, loop=asyncio.get_running_loop()))
            ready.set()
            await ends.wait()

    thread = threading.Thread(target=lambda: drive(run()))
    thread.start()
    assert ready.wait(60)
    (server,) = started
    try:
        yield server
    finally:
        server.loop.call_soon_threadsafe(ends.set)
        thread.join(60)
        assert not thread.is_alive()


def local_engine(policy: Policy) -> LocalEngine:
    """The engine of a small policy, in float32."""
    model = EngineModel(
        policy,
        numerics=Numerics.FLOAT32,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=policy.hook is not None,
    )
    return LocalEngine(model, max_running=64, cache_memory=64 << 20)
