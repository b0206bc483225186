"""Which files at a path are a log, and how they lie there.

    path -> files of the first kind that is found -> Log

Layouts are told by content, never by what the file is called, except TensorBoard's.
"""

import re
from itertools import islice
from pathlib import Path

from steadyrl.analysis.foreign.console_logs import is_console, read_console
from steadyrl.analysis.foreign.csv_logs import is_table, read_table
from steadyrl.analysis.foreign.json_logs import is_json_lines, read_json, read_json_lines
from steadyrl.analysis.foreign.log import Log, to_step
from steadyrl.analysis.foreign.tensorboard_logs import is_event_file, read_events
from steadyrl.analysis.foreign.wandb_logs import is_wandb_file, read_wandb
from steadyrl.base.errors import UserError
from steadyrl.base.text_files import encoding_of, first_bytes, open_text, refuse_special

HEAD = 1 << 20
"""Bytes by which a file is told."""

MARK = "\ufeff"
"""A byte order mark, read as text."""

ARCHIVES = (b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!")
"""First bytes of archives; tar has its name further back."""

_JSON = re.compile(r'\s*(?:\{\s*"|\[\s*\{\s*["}])')
"""The beginning of an object or a list of objects."""

LINES = 200_000
"""Lines of a console in which the first metrics are looked for."""

CHECKPOINTS = ("checkpoint-*/trainer_state.json",)
WANDB = ("*.wandb", "*run-*/*.wandb", "wandb/*run-*/*.wandb")
EVENTS = ("*tfevents*", "*/*tfevents*", "*/*/*tfevents*")
METRICS = ("metrics.jsonl", "*/metrics.jsonl", "*/*/metrics.jsonl")

IN_FOLDERS = (
    ("trainer_state.json",),
    CHECKPOINTS,
    WANDB,
    EVENTS,
    METRICS,
    ("*.jsonl",),
    ("*.csv",),
    ("*.log",),
    ("*.out", "*.txt"),
)
"""Files that are looked for in a folder, the first kind first."""

PARTS = (EVENTS, METRICS)
"""Kinds of which the components of one run may write a file each: prime-rl's do."""

KNOWN = (
    "a trainer_state.json, JSON Lines, a CSV file, a console log, TensorBoard events, a .wandb file"
)


def read_log(path: Path) -> Log:
    """The log at `path`, a file or a folder.

    Raises:
        UserError: there is none, it is empty, or no layout is known for it.
    """
    try:
        if not path.exists():
            raise UserError(f"{path} does not exist. Give a run folder, or the log of a run.")
        refuse_special(path)
        return _read(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read(path: Path) -> Log:
    files, tried = _files_in(path) if path.is_dir() else ([path], {})
    if all(map(is_event_file, files)):
        log = read_events(files)
    else:
        logs = [tried.get(file) or _read_file(file) for file in files]
        rows = tuple(row for log in logs for row in log.rows)
        remarks = tuple(remark for log in logs for remark in log.remarks)
        others = [file.name for file in tried if file not in files]
        if others:
            remarks = (*remarks, f"Read is {files[0].name}. No log: {', '.join(others)}.")
        log = Log(layout=logs[0].layout, rows=rows, remarks=remarks)
    if not any(row.values for row in log.rows):
        raise UserError(
            f"{path} is {log.layout} without a single metric. Wait until the run has logged its "
            "first step, or give another log."
        )
    return log


def _files_in(folder: Path) -> tuple[list[Path], dict[Path, Log | None]]:
    """The files of a log, and the files that had to be read to find it, with their logs."""
    for kind in IN_FOLDERS:
        files = sorted(file for name in kind for file in folder.glob(name) if file.is_file())
        if not files:
            continue
        if kind is CHECKPOINTS:
            latest = max(files, key=lambda file: to_step(file.parent.name.split("-")[-1]) or 0)
            return [latest], {}
        ours = [file for file in files if (file.parent / "config.yaml").is_file()]
        resumed = kind is WANDB and len({file.name for file in files}) == 1
        if len(files) == 1 or resumed or (kind in PARTS and not ours):
            return files, {}
        tried = {} if kind in PARTS else {file: _log_in(file) for file in files}
        logs = [file for file, log in tried.items() if log is not None]
        if len(logs) == 1:
            return logs, tried
        files = logs or files
        names = ", ".join(str(file.relative_to(folder)) for file in files[:4])
        raise UserError(f"{folder} holds {len(files)} logs: {names}. Give one of them.")
    raise UserError(
        f"{folder} is not a run folder: it has no config.yaml with metrics.jsonl, and no log of "
        f"another trainer. Give the folder that a run wrote, or its log: {KNOWN}."
    )


def _log_in(path: Path) -> Log | None:
    """The log in a file; None if it has no metric, as what else a program wrote."""
    try:
        log = _read_file(path)
    except UserError:
        return None
    return log if any(row.values for row in log.rows) else None


def _read_file(path: Path) -> Log:
    data = first_bytes(path, HEAD)
    if not data.strip():
        raise UserError(f"{path} is empty. Wait until the run has logged its first step.")
    if data.startswith(ARCHIVES) or data[257:262] == b"ustar":
        raise UserError(f"{path} is an archive. Unpack it, and give the log in it.")
    if is_wandb_file(path):
        return read_wandb(path)
    head = data.decode(encoding_of(data), errors="replace").removeprefix(MARK)
    if is_json_lines(head):
        return read_json_lines(path)
    if _JSON.match(head) or ".json" in path.suffixes:
        return read_json(path)
    with open_text(path) as lines:
        if is_console(islice(lines, LINES)):
            return read_console(path)
    if "\0" not in head and is_table(head):
        return read_table(path)
    raise UserError(
        f"The layout of {path} is not known. Known are {KNOWN}; for anything else write a CSV "
        "file with a column for each metric, and name them with --columns."
    )
