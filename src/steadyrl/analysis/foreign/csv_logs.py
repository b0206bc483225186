"""Logs as tables: CSV and TSV files, also as W&B's charts export them."""

import csv
import re
from pathlib import Path

from steadyrl.analysis.foreign.log import Log, LogRow, numbers_in, to_number, to_step
from steadyrl.base.errors import UserError

STEPS = ("step", "_step", "global_step", "Step")
ENDS = ("__MIN", "__MAX")
"""Ends of the columns that W&B adds to each metric of a chart."""

_OF_CHART = re.compile(r"(.+?) - (.+)")


def is_table(head: str) -> bool:
    """Whether `head` begins with names of columns and then a row that has numbers."""
    lines = [line for line in head.splitlines() if line.strip()]
    if len(lines) < 2:
        return False
    names, first = list(csv.reader(lines[:2], delimiter=_delimiter(lines[0])))
    in_first = [to_number(cell) for cell in first if cell]
    texts = all(name and to_number(name) is None for name in names)
    return len(names) > 1 and texts and any(number is not None for number in in_first)


def read_table(path: Path) -> Log:
    """The rows of a table. Empty cells are left out.

    Raises:
        UserError: it is a chart of several runs.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        delimiter = _delimiter(file.readline())
        file.seek(0)
        lines = list(csv.DictReader(file, delimiter=delimiter))
    names = _names(list(lines[0]), path) if lines else {}
    rows = [
        numbers_in((names[name], cell) for name, cell in line.items() if cell and name in names)
        for line in lines
    ]
    return Log(layout="a table", rows=tuple([_row(values) for values in rows]))


def _row(values: dict[str, float]) -> LogRow:
    step = next((values[name] for name in STEPS if name in values), None)
    return LogRow(values=values, step=to_step(step) if step is not None else None)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


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
    return {name: found[name][2] if name in found else name for name in kept}
