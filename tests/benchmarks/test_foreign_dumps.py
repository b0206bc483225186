"""The table of formats and faults is the one of the results."""

import json
from pathlib import Path

from foreign_dumps import Outcome, redraw, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "foreign_dumps.json"


def test_the_page_has_the_table_of_the_results(tmp_path: Path) -> None:
    outcomes = [Outcome(**entry) for entry in json.loads(RESULTS.read_text())["outcomes"]]
    page = (ROOT / "docs" / "compare_dumps.md").read_text(encoding="utf-8")
    assert "\n".join(table(outcomes)) in page

    copy = tmp_path / "page.md"
    copy.write_text(page.replace("| 3/3 |", "| 0/3 |"), encoding="utf-8")
    redraw(copy, outcomes)
    assert copy.read_text(encoding="utf-8") == page
