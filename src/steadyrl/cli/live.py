"""`steadyrl live`."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from rich.console import Console

from steadyrl.base.extras import require_extra
from steadyrl.base.kernel_caches import limit_kernel_caches
from steadyrl.base.parent_death import end_with_parent
from steadyrl.base.settings import Settings
from steadyrl.cli.interruption import translate_interruptions
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.cli.serve import api_key_of
from steadyrl.engines.driver import drive
from steadyrl.live.settings import LiveConfig, read_live_config
from steadyrl.records.run_folder import RunFolder

PROGRAM = "steadyrl live"

PARENT = "STEADYRL_LIVE_PARENT"
"""Environment variable with the process id of the server that started a learner."""

RESTARTS = 3
"""Number of times that a learner which was killed is started again."""


class LiveOptions(Settings):
    """Serve a policy, store sessions with feedback, and learn from those with consent.

    CONFIG is a YAML file with a `run` and the settings of the loop; docs/live.md shows one. The
    same command goes on after an interruption, at any moment, with the same sessions.
    """

    config: Annotated[Path, Positional()]
    """The configuration."""

    out: Path | None = None
    """Folder of the loop; none: runs/CONFIG."""

    name: str | None = None
    """Name of the model in the API. Default: that of the folder."""

    port: int | None = Field(None, ge=0, le=65535)
    """Port to listen at, in place of server.port."""

    api_key_variable: str | None = None
    """Environment variable that holds the API key. Required if other machines reach the server."""

    role: Literal["both", "server", "learner"] = "both"
    """both: serve, and learn in a second process. The others do one of these, as for two machines
    that share the folder and the store."""

    generations: int | None = Field(None, ge=1)
    """End the learner after this many generations, counted from the first. None: it does not
    end."""


def live_command(arguments: list[str], console: Console) -> None:
    """Serves and learns until it is interrupted."""
    options = read_options(LiveOptions, arguments, program=PROGRAM)
    require_extra("sqlalchemy", "live")
    limit_kernel_caches()
    config = read_live_config(options.config)
    if options.port is not None:
        server = config.server.model_copy(update={"port": options.port})
        config = config.model_copy(update={"server": server})
    with translate_interruptions(["live", *arguments]):
        _live(config, options, partial(console.print, markup=False, soft_wrap=True))


def _live(config: LiveConfig, options: LiveOptions, note: Callable[[str], None]) -> None:
    from steadyrl.live.folder import open_live_folder, open_store
    from steadyrl.live.learner_process import learn_forever
    from steadyrl.live.serving import serve_live

    path = options.out or Path("runs") / options.config.stem
    key = api_key_of(options.api_key_variable)
    config = open_live_folder(config, path)
    open_store(config, RunFolder(path)).close()  # makes the tables before two processes use them
    if options.role == "learner":
        if PARENT in os.environ:
            end_with_parent(int(os.environ[PARENT]))
        drive(learn_forever(config, path, note, generations=options.generations))
        return
    name = options.name or path.resolve().name

    def announce(url: str) -> None:
        note(f"{name} is served at {url}/v1; feedback goes to {url}/sessions/NAME/feedback")

    serve = serve_live(config, path, name=name, api_key=key, announce=announce, note=note)
    with nullcontext() if options.role == "server" else _learner(options, path, note):
        drive(serve)


@contextmanager
def _learner(options: LiveOptions, path: Path, note: Callable[[str], None]) -> Iterator[None]:
    """A process that learns, started again if it is killed, and ended with this one."""
    command = [sys.executable, "-m", "steadyrl.cli.main", "live", str(options.config)]
    command += ["--out", str(path), "--role", "learner"]
    if options.generations is not None:
        command += ["--generations", str(options.generations)]
    environment = os.environ | {PARENT: str(os.getpid())}
    process = subprocess.Popen(command, env=environment)
    ends = threading.Event()

    def watch() -> None:
        running, starts = process, 1
        while not ends.is_set():
            try:
                status = running.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            if status >= 0 or starts > RESTARTS:
                note(f"The learner ended with status {status}. Sessions are still stored.")
                return
            running, starts = subprocess.Popen(command, env=environment), starts + 1
        running.terminate()
        running.wait(timeout=60)

    watcher = threading.Thread(target=watch, name="learner")
    watcher.start()
    try:
        yield
    finally:
        ends.set()
        watcher.join(90)
