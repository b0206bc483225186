"""Rows of files, as they are written."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.dataset.tables import Table, read_table

ROWS = [{"q": "1+1", "a": 2}, {"q": "näh", "a": 0.5}, {"q": "x", "a": None}]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows_of(path: Path) -> list[Any]:
    return [dict(row) for row in read_table(path).rows]


def test_json_lines_and_json_lists_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, ROWS)))
    listed = written(tmp_path / "a.json", json.dumps(ROWS, indent=1))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert rows_of(lines) == rows_of(listed) == ROWS
    table = read_table(tmp_path / "a.parquet")
    assert [*table.rows] == [table.rows[number] for number in range(3)] == ROWS
    assert table.columns() == ["q", "a"]


def test_places_are_lines_entries_and_rows_of_the_file(tmp_path: Path) -> None:
    text = '{"q": 1}\n\n{"q": 2}\n'
    lines = read_table(written(tmp_path / "a.jsonl", text))
    listed = read_table(written(tmp_path / "a.json", '[{"q": 1}, {"q": 2}]'))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert lines.where(1) == f"line 3 of {tmp_path / 'a.jsonl'}"
    assert listed.where(1) == f"entry 2 of {tmp_path / 'a.json'}"
    assert read_table(tmp_path / "a.parquet").where(1).startswith("row 2 of ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q,a\n1+1,2\n", [{"q": "1+1", "a": "2"}]),
        ("q;a\n1,5;2\n", [{"q": "1,5", "a": "2"}]),
        ("q\ta\n1\t2\n", [{"q": "1", "a": "2"}]),
        ("q|a\n1|2\n", [{"q": "1", "a": "2"}]),
        (
            "\ufeffq , a\r\n 1,NA\r\n007,None\r\n",
            [{"q": " 1", "a": "NA"}, {"q": "007", "a": "None"}],
        ),
        ('q,a\n"two\nlines, ""quoted""",\n', [{"q": 'two\nlines, "quoted"', "a": ""}]),
        ("q,a\nonly\n", [{"q": "only"}]),
        ("q\nline\u2028separator\x0b\n", [{"q": "line\u2028separator\x0b"}]),
    ],
)
def test_cells_of_a_csv_file_are_texts_as_they_are_written(
    tmp_path: Path, text: str, expected: list[dict[str, str]]
) -> None:
    assert rows_of(written(tmp_path / "a.csv", text)) == expected


def test_a_csv_row_is_where_its_first_line_is(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "a.csv", 'q,a\n"x\ny",1\n\nz,2\n'))
    assert [table.where(number) for number in (0, 1)] == [
        f"line {line} of {tmp_path / 'a.csv'}" for line in (2, 5)
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "q,a\n1,2\n3,4,5\n", r"line 3 of .*a\.csv has 3 cells, but the first line has 2"),
        ("a.csv", "q,a,q\n", r"has two columns 'q'\. Rename"),
        ("a.csv", 'q,a\n"1"2,3\n', r"line 2 of .* is not CSV \('.*\. Correct it, or save"),
        ("a.csv", "q,a\n", r"There are no rows in .*a\.csv"),
        ("a.csv", "", r"There are no rows"),
        ("a.jsonl", "", r"There are no rows"),
        ("a.json", "[]", r"There are no rows"),
        (
            "a.jsonl",
            '{"q": 1}\n{"q": \n',
            r"line 2 of .*a\.jsonl is not JSON \(.*Correct or remove",
        ),
        ("a.jsonl", '{"q": 1}\n[1]\n', r"line 2 of .* is not an object, got \[1\]"),
        ("a.json", "[{}, 3]", r"entry 2 of .* is not an object, got 3"),
        ("a.json", "[" * 100_000, r"a\.json is not JSON"),
        ("a.parquet", "no", r"Cannot read .*a\.parquet: Arrow.*Give a Parquet file"),
        ("a.txt", "q", r"a\.txt ends in '\.txt'\. Give a file that ends in one of \.jsonl, "),
        ("a", "q", r"ends in ''"),
    ],
)
def test_files_that_cannot_be_read_are_refused_by_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_table(written(tmp_path / name, text))


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read .* Give a file in UTF-8"):
        read_table(written(tmp_path / "a.csv", "q,a\nä,1\n", "latin-1"))
    with pytest.raises(UserError, match=r"No such file"):
        read_table(tmp_path / "b.csv")


def test_columns_are_those_of_all_rows() -> None:
    assert Table(source="s", rows=[{"a": 1}, {"b": 2, "a": 3}]).columns() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"q": "1+1"}\n{"q": "x", "hint": "y"}\n'),
        ("a.json", '[{"q": "1+1"}, {"q": "x", "hint": "y"}]'),
        ("a.csv", "q,hint\n1+1\nx,y\n"),
    ],
)
def test_a_column_that_a_row_lacks_is_none_as_in_parquet(
    tmp_path: Path, name: str, text: str
) -> None:
    path = written(tmp_path / name, text)
    assert rows_of(path) == [{"q": "1+1", "hint": None}, {"q": "x", "hint": "y"}]
