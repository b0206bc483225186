"""The process that serves: stores sessions, and takes over each policy that is promoted."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import Closable
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.packages import require_server
from steadyrl.gateway.sessions import SessionRules
from steadyrl.learners.whole_model import WholeModel
from steadyrl.live.folder import open_store
from steadyrl.live.loop import STAGE, served_of
from steadyrl.live.recorder import StoreRecorder
from steadyrl.live.settings import LiveConfig
from steadyrl.live.store import SessionStore
from steadyrl.policies.loading import load_tokenizer
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.components import load_policy, make_engine
from steadyrl.training.checkpoint import checkpoint_name, verify_checkpoint

WATCH_SECONDS = 1.0
"""Seconds between two looks at which policy is to be served."""


async def serve_live(
    config: LiveConfig,
    path: Path,
    *,
    name: str,
    api_key: str | None,
    announce: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    """Serves the policy of a loop under `name` until it is canceled or interrupted.

    Args:
        announce: Receives the URL once requests are answered.
        note: Receives a sentence on each change of the policy.

    Raises:
        UserError: the server would be open to others without a key, or a part cannot be used.
    """
    require_server()
    from steadyrl.gateway.access import SessionAccess
    from steadyrl.gateway.app import GatewayApp
    from steadyrl.gateway.server import is_loopback, serving

    settings = config.server
    if api_key is None and not is_loopback(settings.host):
        raise UserError(
            f"server.host is {settings.host}, which other machines reach, without a key. Name an "
            "environment variable that holds one by --api-key-variable, or listen at 127.0.0.1."
        )
    folder = RunFolder(path)
    store, tokenizer = open_store(config, folder), load_tokenizer(config.run.model)
    policy, _ = load_policy(config.run, tokenizer)
    model, engine = WholeModel(policy), make_engine(config.run, policy)
    try:
        await engine.sync(model.publish(0))
        gateway = Gateway(
            engine=engine,
            tokenizer=tokenizer,
            vocabulary_size=policy.vocabulary_size,
            model=name,
            rules=session_rules(config),
            tools=settings.tools,
            recorder=StoreRecorder.of(config, store),
        )
        access = SessionAccess(
            gateway=gateway, limits=settings.limits, api_key=api_key, forgets_oldest=True
        )
        await take_over(model, engine, store, folder, note)
        app = GatewayApp(access=access).starlette()
        async with serving(app, host=settings.host, port=settings.port) as url:
            announce(url)
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                await take_over(model, engine, store, folder, note)
    finally:
        if isinstance(engine, Closable):
            engine.close()
        store.close()


def session_rules(config: LiveConfig) -> SessionRules:
    """What sessions of the loop may ask for."""
    return SessionRules(sampling=config.run.sampling, trains=True, pinned=config.server.pinned)


async def take_over(
    model: WholeModel,
    engine: Engine,
    store: SessionStore,
    folder: RunFolder,
    note: Callable[[str], None],
) -> None:
    """Loads the policy that is to be served, if the engine has another one.

    Answers that are being sampled go on with it, and their tokens have their own versions.
    """
    served = served_of(store.generations())
    if served is None or served.policy_version == engine.policy_version:
        return
    path = folder.checkpoints / checkpoint_name(STAGE, served.generation)
    try:
        verify_checkpoint(path)
        model.load(path)
    except (UserError, OSError):
        if served == served_of(store.generations()):
            raise
        return  # another policy was promoted meanwhile, and this one's folder is gone
    await engine.sync(model.publish(served.policy_version))
    note(f"serving generation {served.generation}, policy version {served.policy_version}")
