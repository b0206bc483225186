"""`steadyrl serve`."""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.base.kernel_caches import limit_kernel_caches
from steadyrl.base.settings import Settings
from steadyrl.cli.measured_model import is_checkpoint, settings_of
from steadyrl.cli.open_run import open_run
from steadyrl.cli.option_help import options_help
from steadyrl.cli.options import override, own_options, refuse_words, split_options, without_help
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.registry import AnyEngine
from steadyrl.gateway.packages import require_server
from steadyrl.policies.model_settings import ModelSettings, Pretrained
from steadyrl.run.config import RunConfig, parse
from steadyrl.run.serving import ServerSettings, serve
from steadyrl.training.checkpoint import latest_checkpoint, verify_checkpoint

PROGRAM = "steadyrl serve"

HELP = """\
usage: steadyrl serve CHECKPOINT|RUN [options]

Serves a checkpoint, or the last one of a run, by OpenAI's HTTP API. Sampling
and engine are those of the run. Calls of a session are recorded as tokens.

  export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none
"""


class ServeOptions(Settings):
    """Options of the command, in addition to those of the server."""

    name: str | None = None
    """Name of the model in the API. Default: that of the folder."""

    api_key_variable: str | None = None
    """Environment variable that holds the API key. Required if other machines reach the server."""


class ServedSettings(ServerSettings):
    """The server and its engine."""

    engine: AnyEngine = LocalEngineSettings()


def serve_command(arguments: list[str], console: Console) -> None:
    """Serves until it is interrupted."""
    arguments, wants_help = without_help(arguments)
    names = list(takewhile(lambda word: not word.startswith("-"), arguments))
    if len(names) != 1 and not wants_help:
        raise UserError(
            f"'{PROGRAM}' needs one folder of a run or of a checkpoint, got {len(names)}. "
            f"'{PROGRAM} --help' shows the options."
        )
    options, settings, config = configured(names, arguments[len(names) :], wants_help=wants_help)
    require_server()
    limit_kernel_caches()
    config = config.model_copy(update={"model": served_model(names[0], config.model)})
    name = options.name or Path(names[0]).resolve().name

    def announce(url: str) -> None:
        console.print(f"{name} is served at {url}/v1", markup=False, soft_wrap=True)

    key = api_key_of(options.api_key_variable)
    drive(serve(config, settings, name=name, api_key=key, announce=announce))


def configured(
    names: Sequence[str], arguments: Sequence[str], *, wants_help: bool = False
) -> tuple[ServeOptions, ServedSettings, RunConfig]:
    """The command's options, the server's settings, and the configuration of a run with its engine.

    Prints help and exits if requested.

    Raises:
        UserError: an option is not valid.
    """
    _, options = split_options(arguments)
    own, options = own_options(ServeOptions, options, program=PROGRAM)
    config = settings_of(names, names_tasks=True)
    base = config.model_dump()
    served = {"sampling": base["sampling"], "engine": base["engine"]}
    values, left = override(ServedSettings, served, options)
    refuse_words(left, PROGRAM)
    if wants_help:
        lines = [HELP, *options_help(ServeOptions), *options_help(ServedSettings, values)]
        print("\n".join(lines).rstrip())
        raise SystemExit(0)
    settings = ServedSettings.model_validate(values)
    return own, settings, parse(base | {"engine": values["engine"]}, "the options")


def served_model(name: str, began: ModelSettings) -> Pretrained:
    """The checkpoint in the folder `name`, of that name on the hub, or the last of a run.

    Args:
        began: The model that the run began with, whose prompts may have a date.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if is_checkpoint(name):
        return Pretrained(path=name)
    checkpoint = latest_checkpoint(open_run(Path(name)))
    if checkpoint is None:
        raise UserError(f"{name} has no checkpoint yet. Let it run to its first one.")
    verify_checkpoint(checkpoint)
    date = began.template_date if isinstance(began, Pretrained) else None
    return Pretrained(path=str(checkpoint), template_date=date)


def api_key_of(variable: str | None) -> str | None:
    """The key in an environment variable; None without one.

    Raises:
        UserError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise UserError(f"The environment variable {variable} is not set. Store the key in it.")
    return key
