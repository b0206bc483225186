"""The folder of a loop.

live.yaml          the configuration
sessions.sqlite    the store, unless `store` names another
checkpoints/       the first policy, the one that is served, and one that is being judged
live.html          generations, with the numbers of both policies
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.live.settings import LiveConfig, read_live_config, write_live_config
from steadyrl.live.store import SessionStore
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.assembly import with_decisions
from steadyrl.run.places import with_absolute_paths
from steadyrl.run.resumption import resolve_from

CONFIG = "live.yaml"
PAGE = "live.html"


def open_live_folder(config: LiveConfig, path: Path) -> LiveConfig:
    """Prepares a folder, or goes on in it; returns the configuration with all decisions.

    Raises:
        UserError: the folder cannot be written, or holds a loop with another `run`.
    """
    config = with_absolute_paths(config)
    file = path / CONFIG
    if not file.exists():
        config = config.model_copy(update={"run": with_decisions(config.run)})
    else:
        began = read_live_config(file).run
        given = resolve_from(config.run, began).model_dump(mode="json")
        changed = list(_differences(began.model_dump(mode="json"), given, "run"))
        if changed:
            raise UserError(
                f"{path} holds a loop with another {changed[0]} in its {CONFIG}. Go on with what "
                "it began with, or give another --out."
            )
        config = config.model_copy(update={"run": began})
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_atomically(file, write_live_config(config))
    except OSError as error:
        raise UserError(
            f"The folder {path} cannot be written: {error.strerror}. Choose another --out."
        ) from error
    return config


def _differences(one: Any, other: Any, name: str) -> Iterator[str]:
    """Names of the settings whose values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from _differences(one.get(key), other.get(key), f"{name}.{key}")
    elif one != other:
        yield f"{name} ({one!r:.40}, now {other!r:.40})"


def open_store(config: LiveConfig, folder: RunFolder) -> SessionStore:
    """The session store of a loop.

    Raises:
        UserError: it cannot be used.
    """
    file = (folder.path / "sessions.sqlite").resolve()
    return SessionStore(config.store or f"sqlite:///{file}")
