"""A checkpoint behind the gateway's HTTP server."""

import asyncio
from collections.abc import Callable

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.protocol import Closable
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.limits import LimitSettings
from steadyrl.gateway.packages import require_server
from steadyrl.gateway.sessions import SessionRules
from steadyrl.learners.whole_model import WholeModel
from steadyrl.policies.loading import load_tokenizer
from steadyrl.records.tool_calls import ToolSettings
from steadyrl.run.components import load_policy, make_engine
from steadyrl.run.config import RunConfig


class ServerSettings(Settings):
    """What is served, and where."""

    host: str = "127.0.0.1"
    """Address to listen at. Another than that of this machine needs a key."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen at. 0: any free one, which is printed."""

    sampling: Sampling = Sampling()
    """Sampling of requests that do not choose their own."""

    tools: ToolSettings = ToolSettings()
    limits: LimitSettings = LimitSettings()


async def serve(
    config: RunConfig,
    settings: ServerSettings,
    *,
    name: str,
    api_key: str | None,
    announce: Callable[[str], None],
) -> None:
    """Serves the model of `config` under `name` until it is canceled or interrupted.

    Args:
        api_key: Key that requests must have; None: none.
        announce: Receives the URL once requests are answered.

    Raises:
        UserError: the server's packages are missing, it would be open to others without a key, or
            the address, the checkpoint or the engine cannot be used.
    """
    require_server()
    from steadyrl.gateway.access import SessionAccess
    from steadyrl.gateway.app import GatewayApp
    from steadyrl.gateway.server import is_loopback, serving

    if api_key is None and not is_loopback(settings.host):
        raise UserError(
            f"--host is {settings.host}, which other machines reach, without a key. Name an "
            "environment variable that holds one by --api-key-variable, or listen at 127.0.0.1."
        )
    tokenizer = load_tokenizer(config.model)
    policy, _ = load_policy(config, tokenizer)
    engine: Engine = make_engine(config, policy)
    try:
        await engine.sync(WholeModel(policy).publish(0))
        gateway = Gateway(
            engine=engine,
            tokenizer=tokenizer,
            vocabulary_size=policy.vocabulary_size,
            model=name,
            rules=SessionRules(sampling=settings.sampling),
            tools=settings.tools,
        )
        access = SessionAccess(gateway=gateway, limits=settings.limits, api_key=api_key)
        app = GatewayApp(access=access)
        async with serving(app.starlette(), host=settings.host, port=settings.port) as url:
            announce(url)
            await asyncio.Event().wait()
    finally:
        if isinstance(engine, Closable):
            engine.close()
