"""The process that learns, beside the one that serves."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from steadyrl.base.run_lock import only_writer
from steadyrl.live.folder import PAGE, open_store
from steadyrl.live.loop import LiveLoop
from steadyrl.live.page import write_live_page
from steadyrl.live.records import Generation
from steadyrl.live.settings import LiveConfig
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly

POLL_SECONDS = 1.0
"""Seconds between two looks at the store."""


async def learn_forever(
    config: LiveConfig, path: Path, note: Callable[[str], None], *, generations: int | None = None
) -> None:
    """Learns whenever enough sessions are waiting, until the process that started this one ends.

    Args:
        generations: Ends after this many, counted from the first; None: never.

    Raises:
        UserError: another process learns in the folder, or a part cannot be used.
    """
    folder, parent = RunFolder(path), os.getppid()
    with only_writer(path):
        store, assembly = open_store(config, folder), Assembly.of(config.run)
        try:
            loop = LiveLoop(config, folder, store, assembly, note)
            await loop.begin()
            write_live_page(path / PAGE, config, store.generations())
            while os.getppid() == parent:
                if generations is not None and _finished(store.generations()) >= generations:
                    return
                if await loop.advance() is None:
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    write_live_page(path / PAGE, config, store.generations())
        finally:
            assembly.close()
            store.close()


def _finished(generations: Sequence[Generation]) -> int:
    return sum(each.number > 0 and each.policy_version is not None for each in generations)
