"""Dumps of other shapes than a number for each token: what is in them, and what is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.analysis.dump_samples import drawn

from steadyrl.analysis.dumps import DumpCause, compare, pair, read_content, read_dump
from steadyrl.base.errors import UserError

Row = dict[str, Any]


def rows_of(change: Callable[[Row], None] = lambda row: None) -> list[Row]:
    rows = [
        {
            "tokens": [*sample.prompt, *sample.response],
            "rollout_logprobs": sample.rollout_logprobs.tolist(),
            "trainer_logprobs": sample.trainer_logprobs.tolist(),
            "response_length": len(sample.response),
        }
        for sample in drawn(4)
    ]
    for row in rows:
        change(row)
    return rows


def cause(path: Path) -> DumpCause | None:
    finding = compare(pair(read_dump(read_content(path), path.name))).finding
    return None if finding is None else finding.cause


def alternatives(row: Row) -> None:
    row["rollout_logprobs"] = [[value, value - 1] for value in row["rollout_logprobs"]]


def objects(row: Row) -> None:
    row["rollout_logprobs"] = [{"5": {"logprob": value}} for value in row["rollout_logprobs"]]


def pieces(row: Row) -> None:
    row["tokens"] = [f"_{token}" for token in row["tokens"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (alternatives, "several numbers for a token, as of its likeliest alternatives"),
        (objects, "is not a table of numbers"),
        (pieces, "tokens of row 0 of x.jsonl is not a table of numbers"),
        (lambda row: row["rollout_logprobs"].pop(), "Save one entry per token"),
        (lambda row: row.clear(), "x.jsonl is empty"),
    ],
)
def test_what_is_not_a_number_for_each_token_is_refused(
    change: Callable[[Row], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows_of(change))))

    with pytest.raises(UserError, match=message):
        cause(path)


def test_lists_of_ragged_rows_by_column_are_rows(tmp_path: Path) -> None:
    rows = rows_of()
    path = tmp_path / "columns.json"
    path.write_text(json.dumps({name: [row[name] for row in rows] for name in rows[0]}))

    assert cause(path) == DumpCause.NUMERICS


def test_responses_without_a_token_are_passed_over(tmp_path: Path) -> None:
    rows = rows_of()
    for row in rows[::5]:
        row["tokens"] = row["tokens"][: -row["response_length"]]
        row |= {"rollout_logprobs": [], "trainer_logprobs": [], "response_length": 0}
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    assert cause(path) == DumpCause.NUMERICS


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")

    with pytest.raises(UserError, match="is a pipe or a device"):
        read_content(tmp_path / "pipe.jsonl")
