"""Files of dumps as plain values: no file can run code.

.pt, .pth             tensors, lists, dictionaries and numpy arrays, by torch's weights-only loader
.jsonl                one object per line
.parquet              one object per row
.safetensors          named tensors
a folder              the files of one kind in it, one after the other
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.extras import require_extra

Content = dict[str, Any] | list[dict[str, Any]]
"""Columns by name, or one object per row."""

_ARRAY, _SCALAR = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
"""The functions that pickled arrays and numbers of numpy name."""

_NUMPY: list[Any] = [
    _ARRAY,
    _SCALAR,
    (_ARRAY, "numpy.core.multiarray._reconstruct"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("b1", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")),
]
"""What a weights-only loader may call besides: arrays of numbers, by the names of numpy 2 and 1."""


def read_content(path: Path) -> Content:
    """The content of a dump.

    Raises:
        UserError: there is no such file, it cannot be read, or it holds objects other than data.
    """
    if not path.exists():
        raise UserError(f"There is no dump {path}. Give a file, or a folder of files.")
    if path.is_dir():
        return _read_folder(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(
            f"{path.name} is not a kind of file that dumps come in: these end in "
            f"{', '.join(READERS)}. Convert it, for example to JSON Lines."
        )
    try:
        return read(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_folder(folder: Path) -> Content:
    if (folder / "run.json").is_file():
        raise UserError(
            f"{folder} is a run of steadyrl, whose files have no log-probabilities by token. "
            f"`steadyrl mismatch {folder}` measures them anew and shows every source."
        )
    by_kind = {end: sorted(folder.glob(f"*{end}")) for end in READERS}
    found = {end: paths for end, paths in by_kind.items() if paths}
    if len(found) != 1:
        kinds = ", ".join(found) or "no dump"
        raise UserError(f"{folder} holds {kinds}. Give one file, or a folder of one kind of file.")
    parts = [read_content(path) for path in next(iter(found.values()))]
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, list) for part in parts):
        return [row for part in parts for row in part if isinstance(row, dict)]
    raise UserError(f"{folder} holds {len(parts)} files of tensors. Give one of them.")


def _read_tensors(path: Path) -> Content:
    try:
        with torch.serialization.safe_globals(_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{path.name} holds more than tensors, numbers and text, or is damaged "
            f"({describe_error(error)[:160]}). Objects of other packages can run code and are not "
            "loaded: save a dictionary of tensors, as docs/compare_dumps.md shows by framework."
        ) from error
    if isinstance(content, dict):
        return content
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return content
    raise UserError(
        f"{path.name} holds a {type(content).__name__}. A dump is a dictionary of tensors, or a "
        "list of dictionaries."
    )


def _read_lines(path: Path) -> Content:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"Line {number} of {path.name} is not JSON ({error}). Give a file with one object "
                "per line; a run that was stopped may have left its last line incomplete."
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"Line {number} of {path.name} is not an object, but {row!r:.60}.")
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> Content:
    require_extra("pyarrow", "data")
    import pyarrow
    from pyarrow.parquet import read_table

    try:
        rows: list[dict[str, Any]] = read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path.name} is not a Parquet file: {error}.") from error
    return rows


def _read_safetensors(path: Path) -> Content:
    try:
        return dict(load_file(path))
    except (SafetensorError, TypeError) as error:
        raise UserError(f"{path.name} is not a file of safetensors: {error}.") from error


READERS: dict[str, Callable[[Path], Content]] = {
    ".pt": _read_tensors,
    ".pth": _read_tensors,
    ".jsonl": _read_lines,
    ".parquet": _read_parquet,
    ".safetensors": _read_safetensors,
}
"""Readers by the end of a file's name."""
