"""Tables in local files: JSON Lines, JSON, CSV, TSV and Parquet."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from steadyrl.base.errors import UserError, call_user_code
from steadyrl.base.extras import require_extra

Row = Mapping[str, Any]


@runtime_checkable
class Rows(Protocol):
    """Rows by index: a list, or a `datasets.Dataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Row: ...

    def __iter__(self) -> Iterator[Row]: ...


SEPARATORS = ",;\t|"
"""Cell separators of CSV files. The most frequent one in the header is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows in order, with their locations.

    Example:
        Table(source="a.csv", rows=[{"prompt": "1+1", "answer": "2"}], unit="line", numbers=[2])
    """

    source: str
    """Origin of the rows, for messages."""

    rows: Rows

    unit: str = "row"
    """Unit of the row numbers."""

    numbers: Sequence[int] | None = None
    """Number of each row in its source; None: counted from 1."""

    def where(self, index: int) -> str:
        """Location of row `index`, as in `line 7 of train.csv`."""
        number = index + 1 if self.numbers is None else self.numbers[index]
        return f"{self.unit} {number} of {self.source}"

    def columns(self) -> list[str]:
        """Names of the columns, in order of first occurrence."""
        names = getattr(self.rows, "column_names", None)
        return list(names or dict.fromkeys(name for row in self.rows for name in row))


class ArrowRows:
    """Rows of a `pyarrow.Table`, converted to Python values on access."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.column_names: list[str] = table.column_names

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int) -> Row:
        row: Row = self._table.slice(index, 1).to_pylist()[0]
        return row

    def __iter__(self) -> Iterator[Row]:
        for batch in self._table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()


def read_table(path: Path) -> Table:
    """Reads a file in the format of its suffix.

    Raises:
        UserError: the file is missing, empty, damaged or in another format; names the line.
    """
    reader = FORMATS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path} ends in {path.suffix!r}. Give a file that ends in one of {', '.join(FORMATS)}."
        )
    table = reader(path)
    if not len(table.rows):
        raise UserError(f"There are no rows in {path}. Give a file with at least one.")
    return _with_all_columns(table)


def _with_all_columns(table: Table) -> Table:
    """`table` with None where a row lacks a column that others have."""
    if isinstance(table.rows, ArrowRows):
        return table
    names = table.columns()
    rows = [
        row if len(row) == len(names) else {**dict.fromkeys(names), **row} for row in table.rows
    ]
    return replace(table, rows=rows)


def read_json(path: Path, *, verbatim: bool = False) -> Table:
    """Reads a list of objects, or one object per line.

    Args:
        verbatim: Whether numbers are read as strings with their spelling.

    Raises:
        UserError: the file cannot be read, or is not JSON.
    """
    text = _read_text(path)
    if text.lstrip().startswith("["):
        entries = _parse(text, str(path), verbatim)
        rows = [_object(entry, f"entry {n} of {path}") for n, entry in enumerate(entries, 1)]
        return Table(source=str(path), rows=rows, unit="entry")
    lines = {n: line for n, line in enumerate(text.split("\n"), 1) if line.strip()}
    places = {n: f"line {n} of {path}" for n in lines}
    rows = [_object(_parse(line, places[n], verbatim), places[n]) for n, line in lines.items()]
    return Table(source=str(path), rows=rows, unit="line", numbers=list(lines))


def _parse(text: str, where: str, verbatim: bool) -> Any:
    parsers: dict[str, Any] = {"parse_int": str, "parse_float": str} if verbatim else {}
    try:
        return json.loads(text, **parsers)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}). Correct or remove it.") from error


def _object(entry: Any, where: str) -> Row:
    if not isinstance(entry, dict):
        raise UserError(
            f"{where} is not an object, got {entry!r:.200}. Write {{...}} with a value for each "
            "column."
        )
    return entry


def _read_csv(path: Path) -> Table:
    """Reads cells verbatim: numbers are not rounded, and `NA` is text."""
    text = _read_text(path)
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[Row] = []
    numbers: list[int] = []
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_header(names, path)
        last = reader.line_num
        for cells in reader:
            first, last = last + 1, reader.line_num  # a cell in quotes may have several lines
            if len(cells) > len(names):
                raise UserError(
                    f"line {first} of {path} has {len(cells)} cells, but the first line has "
                    f"{len(names)}. Put cells that contain a {separator!r} in double quotes."
                )
            if cells:
                rows.append(dict(zip(names, cells, strict=False)))
                numbers.append(first)
    except csv.Error as error:
        raise UserError(
            f"line {reader.line_num} of {path} is not CSV ({error}). Correct it, or save the table "
            "as JSON Lines."
        ) from error
    return Table(source=str(path), rows=rows, unit="line", numbers=numbers)


def _check_header(names: Sequence[str], path: Path) -> None:
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise UserError(f"{path} has two columns {twice[0]!r}. Rename one of them.")


def _read_parquet(path: Path) -> Table:
    require_extra("pyarrow", "data")
    from pyarrow.parquet import read_table as read_arrow

    table = call_user_code(
        lambda: read_arrow(path),
        failure=f"Cannot read {path}",
        remedy="Give a Parquet file.",
    )
    return Table(source=str(path), rows=ArrowRows(table))


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # some editors begin with a mark
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {path} ({error}). Give a file in UTF-8.") from error


FORMATS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": read_json,
    ".json": read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
"""Readers by file suffix."""
