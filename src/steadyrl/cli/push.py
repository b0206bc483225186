"""`steadyrl push`, and the same after a training."""

import sys
from pathlib import Path
from typing import Annotated

from huggingface_hub.utils import disable_progress_bars
from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.interruption import command_line, translate_interruptions
from steadyrl.cli.open_run import open_run
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.hub_folder import hub_folder, write_hub_folder
from steadyrl.run.hub_upload import check_name, check_repository, upload


class PushOptions(Settings):
    """Upload a run's last checkpoint to the Hugging Face hub, with a model card.

    The card states the base model, the method, scores with intervals, versions and limits. The
    configuration, the metrics and a picture of them go along; sampled texts do not.
    """

    run: Annotated[Path, Positional()]
    """The run folder."""

    to: str
    """Repository on the hub: owner/name. It is made if it does not exist."""

    private: bool = False
    """Make the repository private."""

    dry_run: bool = False
    """Write what would be uploaded into the folder `hub` of the run, and upload nothing."""

    base_model: str | None = None
    """Name of the base model on the hub. Default: as in the configuration, if it is a name there.
    """

    license: str | None = None
    """License of the base model, as the hub abbreviates it, such as apache-2.0. Default: as its
    model card states, if one is found."""


class HubOptions(Settings):
    """Upload after a training."""

    push_to_hub: str | None = None
    """Upload the last checkpoint to this repository on the hub, owner/name, after the run. An
    upload that fails does not fail the run. `steadyrl push` does the same later."""

    private: bool = False
    """Make the repository of --push-to-hub private."""

    def check_hub(self) -> None:
        """Returns if the upload can be tried.

        Raises:
            UserError: no repository is named, its name is not valid, or there is no token.
        """
        if self.push_to_hub is not None:
            check_repository(self.push_to_hub)
        elif self.private:
            raise UserError("--private is given without --push-to-hub. Add it, or leave both out.")


def push_command(arguments: list[str], console: Console) -> None:
    """Uploads, or writes what would be uploaded."""
    options = read_options(PushOptions, arguments, program="steadyrl push")
    check_name(options.to)
    if options.base_model is not None:
        check_name(options.base_model)
    folder = open_run(options.run)
    if options.dry_run:
        path = write_hub_folder(
            folder, options.to, name=options.base_model, license_name=options.license
        )
        console.print(f"Not uploaded (--dry-run): {path}", markup=False, soft_wrap=True)
        return
    check_repository(options.to)
    _push(folder, options, console)


def push_after_training(folder: RunFolder, options: HubOptions, console: Console) -> None:
    """Uploads if it is asked for. A failure is told, with the command that repeats the upload."""
    if options.push_to_hub is None:
        return
    words = ["push", str(folder.path), "--to", options.push_to_hub]
    words += ["--private"] if options.private else []
    asked = PushOptions(run=folder.path, to=options.push_to_hub, private=options.private)
    try:
        with translate_interruptions(words):
            _push(folder, asked, console)
    except UserError as error:
        console.print(
            f"{error} The run is complete. Repeat the upload with: {command_line(words)}",
            markup=False,
            soft_wrap=True,
        )


def _push(folder: RunFolder, options: PushOptions, console: Console) -> None:
    if not sys.stderr.isatty():
        disable_progress_bars()
    with hub_folder(
        folder, options.to, name=options.base_model, license_name=options.license
    ) as path:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        text = f"uploading {size / 1e6:,.1f} MB to {options.to}"
        console.print(text, markup=False, soft_wrap=True)
        message = f"Upload {folder.path.resolve().name} with steadyrl"
        address = upload(path, options.to, private=options.private, message=message)
    console.print(f"uploaded: {address}", markup=False, soft_wrap=True)
