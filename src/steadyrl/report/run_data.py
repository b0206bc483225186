"""What a run folder says, but for its completions."""

import json
from dataclasses import dataclass
from typing import Any

from steadyrl.analysis import RunSettings, Stage, run_settings, stages_of
from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything a report says about a run, but for its completions."""

    name: str

    config: str
    """The resolved configuration, as written."""

    manifest: dict[str, Any]
    """Versions, commit, machine, command line. Empty if the run left none."""

    stages: tuple[Stage, ...]
    """In the order in which they ran."""

    notes: tuple[str, ...] = ()
    """What the run decided by itself, and why."""

    @property
    def settings(self) -> RunSettings:
        """What a diagnosis needs to know of the configuration.

        Raises:
            UserError: the configuration cannot be read.
        """
        return run_settings(self.config)


def read_run(folder: RunFolder) -> RunData:
    """What `folder` holds so far.

    Raises:
        UserError: it is not a run folder, has no metrics yet, or holds a file that cannot be read.
    """
    if not folder.config.is_file():
        raise UserError(
            f"{folder.path} is not a run folder: it has no {folder.config.name}. "
            "Give the folder that a run wrote."
        )
    rows = folder.read_metrics()
    if not rows:
        raise UserError(
            f"There are no metrics yet in {folder.path}: {folder.metrics.name} has no finished "
            "step. Wait until the run has finished its first step, then report again."
        )
    return RunData(
        name=folder.path.resolve().name,
        config=folder.config.read_text(encoding="utf-8"),
        manifest=_read_manifest(folder),
        stages=stages_of(rows, origin=str(folder.metrics)),
        notes=tuple(f"From step {note['step']} on. {note['note']}" for note in folder.read_notes()),
    )


def _read_manifest(folder: RunFolder) -> dict[str, Any]:
    if not folder.manifest.is_file():
        return {}
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{folder.manifest} is not JSON ({error.msg}). Correct it or remove it."
        ) from error
    if not isinstance(manifest, dict):
        raise UserError(
            f"{folder.manifest} must hold an object, got {type(manifest).__name__}. "
            "Correct it or remove it."
        )
    return manifest
