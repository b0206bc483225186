"""Files of dumps as plain values: no file can run code.

.pt, .pth             tensors, lists, dictionaries and numpy arrays, by torch's weights-only loader
.jsonl, .ndjson       one object per line; a last line that was cut off is left out
.json                 a list of objects, or columns by name
.parquet              one object per row
.safetensors          named tensors
a folder              the files of one kind in it, one after the other

Files of text may be compressed, with .gz, .bz2, .xz or .zst behind their end.
"""

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.extras import require_extra
from steadyrl.base.text_files import COMPRESSED, open_text, refuse_special, whole_text

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


_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError, OSError)
"""What unpickling raises of bytes that are no pickle of tensors."""


def read_content(path: Path, notes: list[str] | None = None) -> Content:
    """The content of a dump.

    Args:
        notes: Takes what was left out, in sentences.

    Raises:
        UserError: there is no such file, it cannot be read, or it holds objects other than data.
    """
    if not path.exists():
        raise UserError(f"There is no dump {path}. Give a file, or a folder of files.")
    refuse_special(path)
    notes = [] if notes is None else notes
    if path.is_dir():
        return _read_folder(path, notes)
    end = _kind(path)
    try:
        if end in TEXTS:
            return TEXTS[end](path, notes)
        if end in READERS:
            return READERS[end](path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if end in PICKLES:
        raise UserError(
            f"{path.name} is a pickle, which can run code and is not loaded. Save a dictionary of "
            "tensors with torch.save in a .pt file, or rows as JSON Lines."
        )
    raise UserError(
        f"{path.name} is not a kind of file that dumps come in: these end in "
        f"{', '.join((*READERS, *TEXTS))}. Convert it, for example to JSON Lines."
    )


def _kind(path: Path) -> str:
    """The end of the file's name that tells what it holds, without that of its compression."""
    ends = [end.lower() for end in path.suffixes]
    kept = ends[:-1] if len(ends) > 1 and ends[-1] in COMPRESSED and ends[-2] in TEXTS else ends
    return kept[-1] if kept else ""


def _read_folder(folder: Path, notes: list[str]) -> Content:
    if (folder / "run.json").is_file():
        raise UserError(
            f"{folder} is a run of steadyrl, whose files have no log-probabilities by token. "
            f"`steadyrl mismatch {folder}` measures them anew and shows every source."
        )
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if _kind(path) in (*READERS, *TEXTS):
            found.setdefault(_kind(path), []).append(path)
    if len(found) > 1:
        found.pop(".json", None)  # configurations lie beside dumps
    if len(found) != 1:
        kinds = ", ".join(found) or "no dump"
        raise UserError(f"{folder} holds {kinds}. Give one file, or a folder of one kind of file.")
    parts = [read_content(path, notes) for path in next(iter(found.values()))]
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, list) for part in parts):
        return [row for part in parts for row in part if isinstance(row, dict)]
    raise UserError(f"{folder} holds {len(parts)} files of tensors. Give one of them.")


def _read_tensors(path: Path) -> Content:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of pickles that it then refuses
        return _as_content(_load_tensors(file, path), path)


def _load_tensors(file: BinaryIO, path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, *_MALFORMED) as error:
        raise UserError(
            f"{path.name} holds more than tensors, numbers and text, or is damaged "
            f"({describe_error(error)[:160]}). Objects of other packages can run code and are not "
            "loaded: save a dictionary of tensors, as docs/compare_dumps.md shows by framework."
        ) from error


def _as_content(content: Any, path: Path) -> Content:
    if isinstance(content, dict):
        return content
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return content
    raise UserError(
        f"{path.name} holds a {type(content).__name__}. A dump is a dictionary of tensors, or a "
        "list of dictionaries."
    )


def _read_lines(path: Path, notes: list[str]) -> Content:
    rows: list[dict[str, Any]] = []
    broken: tuple[int, Exception] | None = None
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if broken is not None:
                raise UserError(
                    f"Line {broken[0]} of {path.name} is not JSON ({broken[1]}). Give a file with "
                    "one object per line."
                ) from broken[1]
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                broken = (number, error)
                continue
            if not isinstance(row, dict):
                raise UserError(f"Line {number} of {path.name} is not an object, but {row!r:.60}.")
            rows.append(row)
    if broken is not None and not rows:
        raise UserError(
            f"Line {broken[0]} of {path.name} is not JSON ({broken[1]}). Give a file with one "
            "object per line."
        ) from broken[1]
    if broken is not None:
        notes.append(f"The last line of {path.name} was cut off and is left out.")
    return rows


def _read_json(path: Path, notes: list[str]) -> Content:
    try:
        content = json.loads(whole_text(path))
    except (ValueError, RecursionError) as error:
        if str(error).startswith("Extra data"):
            return _read_lines(path, notes)
        raise UserError(f"{path.name} is not JSON ({error}); it may have been cut off.") from error
    return _as_content(content, path)


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
    ".parquet": _read_parquet,
    ".safetensors": _read_safetensors,
}
"""Readers by the end of a file's name."""

TEXTS: dict[str, Callable[[Path, list[str]], Content]] = {
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".json": _read_json,
}
"""Readers of files of text, which may be compressed."""

PICKLES = (".pkl", ".pickle", ".npy", ".npz", ".joblib")
"""Ends of the names of files that may hold pickled objects."""
