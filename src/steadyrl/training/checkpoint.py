"""Checkpoints: a Hugging Face model folder with the trainer's state beside it.

    model.safetensors, config.json, tokenizer.json, ...   for `from_pretrained`, also that of 4.x
    trainer_state.safetensors                             optimizer moments, float32 masters
    algorithm_state.json                                  state of the algorithm, if it has one
    schedule.json, waiting_rollouts.pt                    rollouts that no step has consumed
    place.json                                            stage, step, version, checksums

A sharded learner writes its shards to the folders `weights` and `trainer_state` instead.

A checkpoint gets its name only when it is complete. `place.json` contains the SHA-256 of every
other file and of its own numbers, so that damage is detected before training resumes.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steadyrl.algorithms.protocol import SupportsState
from steadyrl.base.digest import sha256_of
from steadyrl.base.errors import UserError
from steadyrl.learners.protocol import TRAINER_STATE, Learner
from steadyrl.records.run_folder import (
    RunFolder,
    leftover_folders,
    remove_folder,
    write_folder_atomically,
)
from steadyrl.training.sampler import WaitingRollouts
from steadyrl.training.stage import RunPosition, Stage

_TRAINER = TRAINER_STATE.partition(".")[0]
"""Start of the names of files with the state of the optimizer."""

ALGORITHM_STATE = "algorithm_state.json"
SCHEDULE, WAITING = "schedule.json", "waiting_rollouts.pt"
PLACE = "place.json"


def save_checkpoint(
    path: Path,
    learner: Learner,
    position: RunPosition,
    *,
    algorithm_state: Any = None,
    waiting: WaitingRollouts | None = None,
) -> None:
    """Saves the state of learner, algorithm and rollouts to `path` atomically.

    Raises:
        NonFiniteError: a weight is not finite. Nothing is written.
    """

    def write(draft: Path) -> None:
        learner.save(draft)
        write_rollouts(draft, algorithm_state, waiting)
        write_place(draft, position, learner.policy_version)

    write_folder_atomically(path, write)


def write_rollouts(draft: Path, algorithm_state: Any, waiting: WaitingRollouts | None) -> None:
    """Writes the state of algorithm and rollouts to a checkpoint."""
    if algorithm_state is not None:
        text = json.dumps(algorithm_state, indent=2)
        (draft / ALGORITHM_STATE).write_text(text, encoding="utf-8")
    if waiting is not None:
        (draft / SCHEDULE).write_text(json.dumps(waiting.schedule), encoding="utf-8")
        (draft / WAITING).write_bytes(waiting.finished)


def write_place(draft: Path, position: RunPosition, policy_version: int) -> None:
    """Writes the numbers and checksums of a checkpoint whose other files are complete."""
    numbers = {"stage": position.stage, "step": position.step, "policy_version": policy_version}
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    checksums = {file.relative_to(draft).as_posix(): sha256_of(file) for file in files}
    checksums[PLACE] = _sha256_of_numbers(numbers)
    content = {**numbers, "sha256": checksums}
    (draft / PLACE).write_text(json.dumps(content, indent=2), encoding="utf-8")


def load_checkpoint(path: Path, learner: Learner) -> RunPosition:
    """Loads the learner's state from `path`; returns the position at which it was saved.

    Raises:
        UserError: the checkpoint is damaged or belongs to another model.
    """
    content = _verified_content(path)
    learner.load(path, policy_version=content["policy_version"])
    return RunPosition(stage=content["stage"], step=content["step"])


def verify_checkpoint(path: Path) -> int:
    """Verifies every file of a checkpoint; returns its policy version.

    Raises:
        UserError: a file is damaged or missing.
    """
    version: int = _verified_content(path)["policy_version"]
    return version


def check_stage(path: Path, stages: Sequence[Stage]) -> None:
    """Checks that the checkpoint belongs to one of `stages`.

    Raises:
        UserError: the stages of the run have changed, or place.json is damaged.
    """
    number, step = read_place(path)
    names = [stage.name for stage in stages]
    if number >= len(names) or path.name != checkpoint_name(names[number], step):
        raise UserError(
            f"The checkpoint {path} was saved in stage {number + 1} of a run whose stages now are "
            f"{', '.join(names)}. Resume a run with the configuration it began with."
        )


def checkpoint_name(stage: str, step: int) -> str:
    """Folder name of the checkpoint after `step` steps of a stage."""
    return f"{stage}-{step:06d}"


def read_algorithm_state(path: Path, stages: Sequence[Stage]) -> Any:
    """The state of the algorithm whose stage `path` was saved in; None if it has none.

    Reads and verifies only place.json and algorithm_state.json.

    Raises:
        UserError: one of them is damaged, or the checkpoint belongs to another algorithm.
    """
    content = _content(path)
    algorithm = stages[content["stage"]].algorithm
    if not isinstance(algorithm, SupportsState):
        return None
    if ALGORITHM_STATE not in content["sha256"]:
        raise UserError(
            f"The checkpoint {path} holds no memory, but {type(algorithm).__name__} has one. "
            "Resume a run with the configuration it began with."
        )
    _verify(path, ALGORITHM_STATE, content)
    return json.loads((path / ALGORITHM_STATE).read_text(encoding="utf-8"))


def read_waiting(path: Path) -> WaitingRollouts | None:
    """The rollouts that had started and were not consumed; None if there were none.

    Reads and verifies only their files and place.json.

    Raises:
        UserError: one of them is damaged.
    """
    content = _content(path)
    if SCHEDULE not in content["sha256"]:
        return None
    for name in (SCHEDULE, WAITING):
        _verify(path, name, content)
    schedule = json.loads((path / SCHEDULE).read_text(encoding="utf-8"))
    return WaitingRollouts(schedule=schedule, finished=(path / WAITING).read_bytes())


def latest_checkpoint(folder: RunFolder) -> Path | None:
    """The latest checkpoint of a run; None without any."""
    return next(reversed(whole_checkpoints(folder)), None)


def whole_checkpoints(folder: RunFolder) -> list[Path]:
    """The complete checkpoints of a run in order. Other files and folders are ignored.

    Raises:
        UserError: a place.json is damaged.
    """
    found = folder.checkpoints.glob("*")
    return sorted((p for p in found if p.is_dir() and not p.name.startswith(".")), key=read_place)


def read_place(path: Path) -> tuple[int, int]:
    """Stage number and step of a checkpoint.

    Raises:
        UserError: its place.json is damaged.
    """
    content = _content(path)
    return content["stage"], content["step"]


def weights_digest(path: Path) -> str:
    """16 hexadecimal digits, equal for checkpoints whose weights are equal to the bit.

    Raises:
        UserError: its place.json is damaged.
    """
    files = _content(path)["sha256"]
    weights = {
        name: digest
        for name, digest in files.items()
        if name.endswith((".safetensors", ".distcp")) and not name.startswith(_TRAINER)
    }
    return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()[:16]


def drop_old_checkpoints(folder: RunFolder, keep: int) -> None:
    """Removes old checkpoints, and incomplete ones left by a killed process.

    Keeps the `keep` newest, and the last of each stage, which the next stage started from.
    """
    whole = whole_checkpoints(folder)
    last_of_stage = {read_place(path)[0]: path for path in whole}
    for path in whole[:-keep]:
        if path not in last_of_stage.values():
            remove_folder(path)
    for path in leftover_folders(folder.checkpoints):
        shutil.rmtree(path)


def _content(path: Path) -> dict[str, Any]:
    """Content of place.json, whose own numbers are verified."""
    try:
        content = json.loads((path / PLACE).read_text(encoding="utf-8"))
        whole = content["sha256"][PLACE] == _sha256_of_numbers(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"{PLACE} cannot be read") from error
    if not whole:
        raise _damaged(path, f"{PLACE} has changed since it was written")
    return content


def _verified_content(path: Path) -> dict[str, Any]:
    """Content of place.json, after verifying every file."""
    content = _content(path)
    for name in content["sha256"]:
        if name != PLACE:
            _verify(path, name, content)
    return content


def _verify(path: Path, name: str, content: Mapping[str, Any]) -> None:
    """Verifies the file `name`."""
    file = path / name
    if not file.is_file():
        raise _damaged(path, f"{name} is missing")
    if sha256_of(file) != content["sha256"][name]:
        raise _damaged(path, f"{name} has changed since it was written")


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"The checkpoint {path} is damaged: {reason}. Remove that folder; the run then resumes "
        "from the checkpoint before it, or from the beginning."
    )


def _sha256_of_numbers(content: Mapping[str, Any]) -> str:
    numbers = [int(content[name]) for name in ("stage", "step", "policy_version")]
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()
