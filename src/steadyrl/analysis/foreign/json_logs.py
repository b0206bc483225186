"""Logs in JSON: a trainer's state, JSON Lines, and tables of metrics by step."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from steadyrl.analysis.foreign.log import Log, LogRow, numbers_in, to_step
from steadyrl.analysis.series import COLD_START
from steadyrl.base.errors import UserError
from steadyrl.base.text_files import open_text, whole_text
from steadyrl.base.wording import count

STEPS = ("step", "_step", "global_step")
"""Names of the step where the trainer's own is not known yet."""


def is_json_lines(head: str) -> bool:
    """Whether the first line of `head` is an object, and if it is the only one, has a step."""
    lines = head.strip().splitlines()
    try:
        first = json.loads(lines[0]) if lines else None
    except json.JSONDecodeError:
        return False
    return isinstance(first, dict) and (len(lines) > 1 or any(name in first for name in STEPS))


def read_json_lines(path: Path) -> Log:
    """The rows of a JSON Lines file. Lines that are not objects are left out and counted."""
    rows, broken = [], 0
    with open_text(path) as file:
        for line in filter(str.strip, file):
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                broken += 1
                continue
            if isinstance(row, dict):
                rows.append(row)
    remarks = [f"{count(broken, 'line')} of {path.name} left out: not JSON."] if broken else []
    return Log(layout="JSON Lines", rows=rows_of(rows), remarks=tuple(remarks))


def read_json(path: Path) -> Log:
    """The log in a JSON file: `trainer_state.json`, a list of rows, or values by metric and step.

    Raises:
        UserError: it is none of these, or was cut off.
    """
    try:
        data = json.loads(whole_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        if str(error).startswith("Extra data"):  # lines, of which the first is very long
            return read_json_lines(path)
        raise UserError(
            f"{path} is not valid JSON ({error}); it may have been cut off. Give an earlier "
            "checkpoint's trainer_state.json, or another log of the run."
        ) from error
    if isinstance(data, dict) and isinstance(data.get("log_history"), list):
        return Log(layout="trainer_state.json", rows=rows_of(data["log_history"]))
    if isinstance(data, list):
        return Log(layout="a JSON list of rows", rows=rows_of(data))
    if isinstance(data, dict) and any(isinstance(series, dict) for series in data.values()):
        return Log(layout="JSON, by metric and step", rows=_rows_by_step(data))
    raise UserError(
        f"{path} holds no log: neither a 'log_history', nor a list of rows, nor values by metric "
        "and step. Give the trainer_state.json or the metrics of a run."
    )


def rows_of(rows: Iterable[Any]) -> tuple[LogRow, ...]:
    """Rows of numbers from JSON objects; those of a cold start are left out."""
    return tuple(
        [_row(row) for row in rows if isinstance(row, dict) and row.get("stage") != COLD_START]
    )


def _row(row: Mapping[str, Any]) -> LogRow:
    nested = row.get("data")  # verl's file logger: {"step": 1, "data": {...}}
    values = numbers_in((nested if isinstance(nested, dict) else row).items())
    steps = (to_step(row.get(name)) for name in STEPS if name in row)
    return LogRow(values=values, step=next((step for step in steps if step is not None), None))


def _rows_by_step(data: Mapping[str, Any]) -> tuple[LogRow, ...]:
    """The rows of {"metric": {"1": 0.5}}, as NeMo-RL dumps TensorBoard events."""
    by_step: dict[int, dict[str, Any]] = {}
    for name, series in data.items():
        for written, value in series.items() if isinstance(series, dict) else ():
            step = to_step(written)
            if step is not None:
                by_step.setdefault(step, {})[name] = value
    return tuple(
        [LogRow(values=numbers_in(by_step[step].items()), step=step) for step in sorted(by_step)]
    )
