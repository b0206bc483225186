"""Data that the examples and the documentation use."""

import csv
import operator
from pathlib import Path

SUMS = Path(__file__).parents[1] / "examples" / "sums.csv"
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def test_every_answer_of_the_sums_is_right() -> None:
    with SUMS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    for row in rows:
        _, left, sign, right = row["prompt"].removesuffix(".").split()
        assert int(row["answer"]) == OPERATIONS[sign](int(left), int(right)), row
    assert len({row["prompt"] for row in rows}) == len(rows) == 432
