"""The contents of a run folder, without its completions."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from steadyrl.analysis import Diagnosis, RunSettings, Stage, diagnose, stages_of
from steadyrl.analysis.foreign import ForeignRun
from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.samples import read_task_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything a report says about a run, but for its completions."""

    name: str

    config: dict[str, Any]
    """The resolved configuration."""

    config_text: str
    """The same as written."""

    manifest: dict[str, Any]
    """Versions, commit, machine, command line. Empty if the run left none."""

    stages: tuple[Stage, ...]
    """In the order in which they ran."""

    notes: tuple[str, ...] = ()
    """Notes: the run's automatic decisions and their reasons."""

    folder: RunFolder | None = None
    """Where it was read from; None for a log of another trainer."""

    foreign: ForeignRun | None = None
    """The run of another trainer that this is."""

    @property
    def settings(self) -> RunSettings:
        """The settings that a diagnosis uses."""
        return RunSettings.of(self.config)

    @property
    def report(self) -> Path:
        """Where its report goes."""
        run = self.foreign or self.folder
        assert run is not None
        return run.report

    def diagnose(self) -> Diagnosis:
        """The diagnosis, in the words of the trainer that made the run."""
        return self.foreign.diagnose() if self.foreign else diagnose(self.stages, self.settings)


def data_of(run: RunFolder | ForeignRun) -> RunData:
    """What a report says about a run of this package or of another trainer.

    Raises:
        UserError: as `read_run`.
    """
    if isinstance(run, RunFolder):
        return read_run(run)
    return RunData(
        name=run.name, config={}, config_text="", manifest={}, stages=run.stages, foreign=run
    )


def read_run(folder: RunFolder) -> RunData:
    """Reads the current contents of `folder`.

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
            "step. If the run still runs, wait for its first step; if it failed, train again."
        )
    return RunData(
        name=folder.path.resolve().name,
        config=_mapping(folder.config, yaml.safe_load),
        config_text=folder.config.read_text(encoding="utf-8"),
        manifest=_mapping(folder.manifest, json.loads) if folder.manifest.is_file() else {},
        stages=tuple(
            _with_task_scores(stage, folder)
            for stage in stages_of(rows, origin=str(folder.metrics))
        ),
        notes=tuple(f"From step {note['step']} on. {note['note']}" for note in folder.read_notes()),
        folder=folder,
    )


def _with_task_scores(stage: Stage, folder: RunFolder) -> Stage:
    """The stage with the scores of each task at its first, its best and its last evaluation."""
    score = stage.finite("score")
    if score is None:
        return stage
    steps = {int(score.steps[place]) for place in (0, int(score.values.argmax()), -1)}
    return replace(stage, task_scores=read_task_scores(folder, stage.name, steps))


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """The names and values in a JSON or YAML file."""
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read: {reason}. Restore what the run wrote.") from error
    if not isinstance(values, dict):
        raise UserError(
            f"{path} must hold values by name, got {type(values).__name__}. "
            "Restore what the run wrote."
        )
    return values
