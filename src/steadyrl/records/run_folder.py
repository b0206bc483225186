"""A run is a folder: where each thing lies, and how it is written so that a kill loses nothing.

config.yaml                     the resolved configuration
run.json                        versions, commit, machine, command line, digests of the data
resumes.jsonl                   the same of each resume, with what was lost and what was changed
metrics.jsonl                   one object per step: {"stage": "rl", "step": 3, "reward": 0.4, ...}
notes.jsonl                     what the run decided by itself, and why
memory.jsonl                    what an algorithm with a memory wrote into it, and when
completions/rl-000003.jsonl     one object per episode of that step, or per part of one
completions/drift_rl-000000.jsonl   off-task texts, how likely they were, and answers to them
tensorboard/                    the same metrics as events
trackers.json                   the names by which services such as W&B know the run
wandb/                          files of W&B
checkpoints/rl-000003/          a Hugging Face model folder, and the trainer's state
references/rl/                  the weights that a KL penalty holds the stage to
report.html                     written by `steadyrl report`
mismatch.json                   written by `steadyrl mismatch`
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steadyrl.base.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Writes `text` so that a reader, or a run resumed after a kill, sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _rename(draft, path)


def write_folder_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` on an empty folder, then gives it the name `path`, replacing what was there."""
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        write(draft)
        for written in draft.rglob("*"):
            _settle(written)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        _raise_what_the_system_says(error, path)
        raise
    if path.exists():
        remove_folder(path)
    _rename(draft, path)


def _raise_what_the_system_says(error: BaseException, path: Path) -> None:
    """Raises OSError where a library tells a fault of the disk in words, as safetensors does."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    if told is not None and not isinstance(error, OSError):
        number = int(told[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def _rename(draft: Path, path: Path) -> None:
    """Gives `draft` the name `path` for good: not even a loss of power leaves less than all."""
    _settle(draft)
    draft.replace(path)
    _settle(path.parent)


def _settle(path: Path) -> None:
    """Returns when a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Removes a folder so that a kill leaves all of it under its name, or nothing."""
    doomed = path.with_name(f".{path.name}.doomed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.replace(doomed)
    shutil.rmtree(doomed)


def leftover_folders(parent: Path) -> list[Path]:
    """The folders in `parent` that a kill left half written or half removed."""
    return [
        path for end in ("draft", "doomed") for path in parent.glob(f".*.{end}") if path.is_dir()
    ]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file. A last line cut off by a kill is left out.

    Raises:
        UserError: an inner line is not JSON.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    *complete, _cut_off = text.split("\n")
    rows = []
    for number, line in enumerate(complete, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(
                f"Line {number} of {path} is not JSON ({error.msg}). "
                "Remove that line, or resume the run from its last checkpoint, which rewrites it."
            ) from error
    return rows


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / "run.json"
        self.resumes = path / "resumes.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.notes = path / "notes.jsonl"
        self.memory = path / "memory.jsonl"
        self.trackers = path / "trackers.json"
        self.completions = path / "completions"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.references = path / "references"
        self.report = path / "report.html"

    @property
    def is_taken(self) -> bool:
        """Whether it holds a run that has measured anything, or saved a checkpoint."""
        if not self.config.exists():
            return False
        measured = self.metrics.exists() and self.metrics.stat().st_size > 0
        return measured or any(self.checkpoints.glob("[!.]*"))

    def clear(self) -> None:
        """Removes what a run that is not to be kept has left behind."""
        for file in (
            self.config,
            self.manifest,
            self.resumes,
            self.metrics,
            self.notes,
            self.memory,
            self.trackers,
        ):
            file.unlink(missing_ok=True)
        for folder in (self.completions, self.tensorboard, self.references):
            shutil.rmtree(folder, ignore_errors=True)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics of every finished step, oldest first."""
        return read_json_lines(self.metrics)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one step's metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the metrics by `rows`: what a resumed run still holds to be true."""
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))

    def read_notes(self) -> list[dict[str, Any]]:
        """What the run decided by itself, oldest first."""
        return read_json_lines(self.notes)

    def append_note(self, note: Mapping[str, Any]) -> None:
        """Adds one decision."""
        with self.notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")

    def keep_notes(self, notes: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the notes by `notes`."""
        if notes or self.notes.exists():
            write_atomically(self.notes, "".join(json.dumps(note) + "\n" for note in notes))

    def read_resumes(self) -> list[dict[str, Any]]:
        """The record of each resume, oldest first."""
        return read_json_lines(self.resumes)

    def append_resume(self, record: Mapping[str, Any]) -> None:
        """Adds the record of one resume. A last one that a kill cut off is left out."""
        records = [*self.read_resumes(), record]
        write_atomically(self.resumes, "".join(json.dumps(each) + "\n" for each in records))

    def read_memory(self) -> list[dict[str, Any]]:
        """Every write into an algorithm's memory, oldest first."""
        return read_json_lines(self.memory)

    def append_memory(self, writes: Iterable[Mapping[str, Any]]) -> None:
        """Adds the writes of one step."""
        with self.memory.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(write) + "\n" for write in writes)

    def keep_memory(self, writes: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the writes by `writes`."""
        if writes or self.memory.exists():
            write_atomically(self.memory, "".join(json.dumps(write) + "\n" for write in writes))

    def remove_events(self) -> None:
        """Removes the TensorBoard events, to be written anew from the metrics."""
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def completions_file(self, stage: str, step: int) -> Path:
        """The file of the episodes of one step."""
        return self.completions / f"{stage}-{step:06d}.jsonl"

    def write_completions(self, stage: str, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the episodes of one step."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.completions_file(stage, step), text)
