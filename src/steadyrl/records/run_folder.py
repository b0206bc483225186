"""Layout of a run folder, and atomic writes, so that a killed process loses no data.

config.yaml                     the resolved configuration
run.json                        versions, commit, machine, command line, digests of the data
resumes.jsonl                   the same for each resume, with lost steps and changed settings
metrics.jsonl                   one object per step: {"stage": "rl", "step": 3, "reward": 0.4, ...}
notes.jsonl                     automatic decisions of the run, with reasons
memory.jsonl                    writes to the memory of an algorithm, with their steps
completions/rl-000003.jsonl     one object per episode of that step, or per part of an episode
completions/drift_rl-000000.jsonl   off-task texts with their log-likelihoods and responses
tensorboard/                    the same metrics as events
trackers.json                   ids of the run in services such as W&B
wandb/                          files of W&B
checkpoints/rl-000003/          a Hugging Face model folder and the trainer's state
references/rl/                  weights of the reference policy of a KL penalty
report.html                     written by `steadyrl report`
mismatch.json                   written by `steadyrl mismatch`
hub/                            written by `steadyrl push --dry-run`
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steadyrl.base.disk_errors import disk_errors
from steadyrl.base.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically: readers see all of it or none, even after a kill."""
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
    """Calls `write` with an empty folder, then renames it to `path`, replacing any old folder."""
    draft = empty_draft(path)
    complete_draft(draft, path, write)


def empty_draft(path: Path) -> Path:
    """An empty folder beside `path`, to be completed later."""
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def complete_draft(draft: Path, path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with `draft`, then renames it to `path`, replacing any old folder.

    If that fails, the draft is removed.
    """
    try:
        with disk_errors(path):
            write(draft)
            for written in draft.rglob("*"):
                _settle(written)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if path.exists():
        remove_folder(path)
    _rename(draft, path)


def _rename(draft: Path, path: Path) -> None:
    """Renames `draft` to `path` durably: the content survives a power loss."""
    _settle(draft)
    draft.replace(path)
    _settle(path.parent)


def _settle(path: Path) -> None:
    """Flushes the content of a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Removes a folder atomically: after a kill, `path` holds all of it or does not exist."""
    doomed = path.with_name(f".{path.name}.doomed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.replace(doomed)
    shutil.rmtree(doomed)


def leftover_folders(parent: Path) -> list[Path]:
    """Folders in `parent` that were being written or removed when the process was killed."""
    return [
        path for end in ("draft", "doomed") for path in parent.glob(f".*.{end}") if path.is_dir()
    ]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, without an incomplete last line.

    Raises:
        UserError: a complete line is not valid JSON.
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
                f"Line {number} of {path} is not valid JSON ({error.msg}). Remove the line, or "
                "resume the run from its last checkpoint, which rewrites the file."
            ) from error
    return rows


class RunFolder:
    """Paths in the folder of one run, and its files of records."""

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
        """Whether the folder holds a run that has recorded metrics or saved a checkpoint."""
        if not self.config.exists():
            return False
        measured = self.metrics.exists() and self.metrics.stat().st_size > 0
        return measured or any(self.checkpoints.glob("[!.]*"))

    def clear(self) -> None:
        """Removes the files of an abandoned run."""
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
        """Metrics of every finished step, oldest first."""
        return read_json_lines(self.metrics)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends the metrics of one step."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the metrics by `rows`, the steps that a resumed run keeps."""
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))

    def read_notes(self) -> list[dict[str, Any]]:
        """Automatic decisions of the run, oldest first."""
        return read_json_lines(self.notes)

    def append_note(self, note: Mapping[str, Any]) -> None:
        """Appends one note."""
        with self.notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")

    def keep_notes(self, notes: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the notes by `notes`."""
        if notes or self.notes.exists():
            write_atomically(self.notes, "".join(json.dumps(note) + "\n" for note in notes))

    def read_resumes(self) -> list[dict[str, Any]]:
        """Records of all resumes, oldest first."""
        return read_json_lines(self.resumes)

    def append_resume(self, record: Mapping[str, Any]) -> None:
        """Appends the record of one resume, and drops an incomplete last line."""
        records = [*self.read_resumes(), record]
        write_atomically(self.resumes, "".join(json.dumps(each) + "\n" for each in records))

    def read_memory(self) -> list[dict[str, Any]]:
        """All writes to the algorithm's memory, oldest first."""
        return read_json_lines(self.memory)

    def append_memory(self, writes: Iterable[Mapping[str, Any]]) -> None:
        """Appends the memory writes of one step."""
        with self.memory.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(write) + "\n" for write in writes)

    def keep_memory(self, writes: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the memory writes by `writes`."""
        if writes or self.memory.exists():
            write_atomically(self.memory, "".join(json.dumps(write) + "\n" for write in writes))

    def remove_events(self) -> None:
        """Removes the TensorBoard events, which are then rewritten from the metrics."""
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def completions_file(self, stage: str, step: int) -> Path:
        """Path of the completions file of one step."""
        return self.completions / f"{stage}-{step:06d}.jsonl"

    def write_completions(self, stage: str, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the completions file of one step."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.completions_file(stage, step), text)
