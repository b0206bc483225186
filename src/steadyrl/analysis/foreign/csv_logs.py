"""Logs as tables: CSV and TSV files, W&B's exports of charts, and tables that notebooks show.

A notebook's table is pasted with `|` between its cells, and a row of dashes below the names.
"""

import csv
import re
from itertools import chain
from pathlib import Path

from steadyrl.analysis.foreign.log import STEPS, Log, LogRow, numbers_in, to_number, to_step
from steadyrl.base.errors import UserError
from steadyrl.base.text_files import open_text

ENDS = ("__MIN", "__MAX")
"""Ends of the columns that W&B adds to each metric of a chart."""

_OF_CHART = re.compile(r"(.+?) - (.+)")
_COMMA = re.compile(r"^(\s*[-+]?\d*),(\d+(?:[eE][-+]?\d+)?\s*)$")
"""A number with a decimal comma."""

_RULE = re.compile(r"[\s|:-]*-[\s|:-]*")
"""The row of dashes below the names of a table in Markdown."""


def is_table(head: str) -> bool:
    """Whether `head` begins with names of columns and then a row that has numbers."""
    first = head.splitlines()[:20]
    lines = [line for line in first if line.strip() and not _RULE.fullmatch(line.strip())]
    if len(lines) < 2:
        return False
    try:
        names, row = list(csv.reader(lines[:2], delimiter=_delimiter(lines[0])))
    except (csv.Error, ValueError):  # a text that is no table, or one line of two
        return False
    if _delimiter(lines[0]) == "|":  # there may be bars at both ends
        names = [name for name in names if name.strip()]
    if names and not names[0].strip():  # of an index, as pandas writes it
        names = names[1:]
    texts = all(name.strip() and to_number(name) is None for name in names)
    cells = (_plain(cell, _delimiter(lines[0])) for cell in row if cell)
    numbers = any(to_number(cell) is not None for cell in cells)
    return len(names) > 1 and texts and numbers


def read_table(path: Path) -> Log:
    """The rows of a table. Empty cells are left out.

    Raises:
        UserError: it is a chart of several runs.
    """
    try:
        with open_text(path, newline="") as file:
            header = next((line for line in file if line.strip()), "")
            cells = (line for line in chain([header], file) if not _RULE.fullmatch(line.strip()))
            delimiter = _delimiter(header)
            lines = list(csv.DictReader(cells, delimiter=delimiter))
    except csv.Error as error:
        raise UserError(f"{path} is not a table that can be read: {error}.") from error
    names = _names(list(lines[0]), path) if lines else {}
    rows = [
        numbers_in(
            (names[name], _plain(cell, delimiter))
            for name, cell in line.items()
            if cell and name in names
        )
        for line in lines
    ]
    return Log(layout="a table", rows=tuple([_row(values) for values in rows]))


def _row(values: dict[str, float]) -> LogRow:
    step = next((values[name] for name in STEPS if name in values), None)
    return LogRow(values=values, step=to_step(step) if step is not None else None)


def _plain(cell: str, delimiter: str) -> str:
    """The text of a cell with a decimal point."""
    return _COMMA.sub(r"\1.\2", cell) if delimiter == ";" else cell


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)


def _names(columns: list[str], path: Path) -> dict[str, str]:
    """The metric of each column. W&B writes `RUN - METRIC`, and two more columns for its ends."""
    kept = [name for name in columns if name and not name.endswith(ENDS)]
    found = {name: found for name in kept if (found := _OF_CHART.fullmatch(name))}
    runs = {match[1] for match in found.values()}
    if len(runs) > 1:
        raise UserError(
            f"{path} has columns of {len(runs)} runs: {', '.join(sorted(runs)[:4])}. Export the "
            "chart of one run."
        )
    return {
        name: found[name][2] if name in found else name.strip().replace(" / ", "/") for name in kept
    }
