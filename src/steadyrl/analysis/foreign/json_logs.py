"""Logs in JSON: a trainer's state, JSON Lines, and tables of metrics by step."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from steadyrl.analysis.foreign.log import STEPS, Log, LogRow, numbers_in, to_step
from steadyrl.analysis.series import COLD_START
from steadyrl.base.errors import UserError
from steadyrl.base.text_files import open_text, whole_text
from steadyrl.base.wording import count

PROGRESS = "global_step/max_steps"
"""Column of ms-swift, whose values are such as "9/547"."""


def is_json_lines(head: str) -> bool:
    """Whether the first line of `head` is an object, and if it is the only one, has a step."""
    lines = head.strip().splitlines()
    try:
        first = json.loads(lines[0]) if lines else None
    except json.JSONDecodeError:
        return False
    if not isinstance(first, dict):
        return False
    return len(lines) > 1 or any(to_step(first.get(name, "")) is not None for name in STEPS)


def read_json_lines(path: Path) -> Log:
    """The rows of a JSON Lines file. Lines that are not objects are left out and counted."""
    broken = 0

    def objects(lines: Iterable[str]) -> Iterator[Any]:
        nonlocal broken
        for line in lines:
            if line.isspace():
                continue
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                broken += 1

    with open_text(path) as file:
        rows = rows_of(objects(file))
    remarks = [f"{count(broken, 'line')} of {path.name} left out: not JSON."] if broken else []
    return Log(layout="JSON Lines", rows=rows, remarks=tuple(remarks))


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
    found = _of_list(data) if isinstance(data, list) else _of_object(data)
    if found is None:
        raise UserError(
            f"{path} holds no log: neither a 'log_history', nor a list of rows, nor values by "
            "metric and step. Give the trainer_state.json or the metrics of a run."
        )
    return found


def _of_list(data: list[Any]) -> Log:
    if not all(isinstance(row, list) and len(row) == 3 for row in data):
        return Log(layout="a JSON list of rows", rows=rows_of(data))
    rows = [LogRow(step=to_step(step), values=numbers_in([("Value", v)])) for _, step, v in data]
    return Log(layout="a chart of TensorBoard's", rows=tuple(rows))


def _of_object(data: Any) -> Log | None:
    """The log in an object; None if there is none. The last three are what pandas writes, too."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("log_history"), list):
        return Log(layout="trainer_state.json", rows=rows_of(data["log_history"]))
    names, table = data.get("columns"), data.get("data")
    if isinstance(names, list) and isinstance(table, list):
        rows = (dict(zip(names, row, strict=False)) for row in table if isinstance(row, list))
        return Log(layout="a JSON table", rows=rows_of(rows))
    if any(isinstance(series, list) for series in data.values()):
        data = {name: dict(enumerate(v)) for name, v in data.items() if isinstance(v, list)}
    if any(isinstance(series, dict) for series in data.values()):
        return Log(layout="JSON, by metric and step", rows=_rows_by_step(data))
    return None


def rows_of(rows: Iterable[Any]) -> tuple[LogRow, ...]:
    """Rows of numbers from JSON objects; those of a cold start are left out."""
    return tuple(
        [_row(row) for row in rows if isinstance(row, dict) and row.get("stage") != COLD_START]
    )


def _row(row: Mapping[str, Any]) -> LogRow:
    nested = row.get("data")  # verl's file logger: {"step": 1, "data": {...}}
    values = numbers_in((nested if isinstance(nested, dict) else row).items())
    steps = [to_step(row[name]) for name in STEPS if name in row]
    if PROGRESS in row:
        steps.append(to_step(str(row[PROGRESS]).partition("/")[0]))
    return LogRow(values=values, step=next((step for step in steps if step is not None), None))


def _rows_by_step(data: Mapping[str, Any]) -> tuple[LogRow, ...]:
    """The rows of {"metric": {"1": 0.5}}, as NeMo-RL dumps TensorBoard events, and pandas tables.

    Of a table the numbers are those of its rows, and a column may hold the step.
    """
    by_number: dict[int, dict[str, Any]] = {}
    for name, series in data.items():
        for written, value in series.items() if isinstance(series, dict) else ():
            number = to_step(written)
            if number is not None:
                by_number.setdefault(number, {})[name] = value
    rows = [_row({"step": number} | by_number[number]) for number in sorted(by_number)]
    if any(name in data for name in STEPS):
        rows = list(rows_of(by_number[number] for number in sorted(by_number)))
    return tuple(rows)
