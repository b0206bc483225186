"""The record of a run: metrics.jsonl and notes.jsonl in its folder."""

from typing import Literal

from steadyrl.records.run_folder import RunFolder
from steadyrl.training.stage import Stage
from steadyrl.training.trackers.protocol import Row, TrackedRun, Tracker, TrackerSettings


class JsonlSettings(TrackerSettings):
    """One JSON object a step, in the run folder. Every run has it."""

    name: Literal["jsonl"] = "jsonl"

    def open(self, run: TrackedRun) -> Tracker:
        """The tracker of `run`, whose folder holds what is on record."""
        return JsonlTracker(run.folder)


class JsonlTracker:
    """Appends to the files of a run folder.

    Infinities and NaN are written as Python, pandas and DuckDB read them.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Appends a row with `stage`, `step` and the metrics."""
        self._folder.append_metrics({"stage": stage.name, "step": step, **metrics})

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Appends the note."""
        self._folder.append_note({"stage": stage.name, "step": step, "note": text})

    def close(self) -> None:
        """Does nothing: each row is on the disk already."""
