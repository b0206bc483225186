"""The tables of `docs/performance.md`, drawn anew from what was measured last."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.performance.records import RESULTS, Measured, Row, read_about, read_rows
from benchmarks.performance.targets import TARGETS, Target

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def redraw(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Replaces what stands between the marks of `page`."""
    rows, about = read_rows(results), read_about(results)
    text = page.read_text(encoding="utf-8")
    for mark, table in (
        ("targets", targets_table(rows)),
        ("rows", rows_table(rows)),
        ("origin", origin_table(about)),
    ):
        text = between_marks(text, mark, table)
    page.write_text(text, encoding="utf-8")


def between_marks(text: str, mark: str, content: str) -> str:
    """`text` with `content` between `<!-- mark:begin -->` and `<!-- mark:end -->`.

    Raises:
        ValueError: the marks are not there.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"The page has no marks {begin} and {end}. Put them around the table.")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text, count=1)


def targets_table(rows: Mapping[str, Row]) -> str:
    """What is to be reached, what was measured, and whether it was reached."""
    return _table(
        ("what", "target", "measured", "verdict"),
        [_target_cells(target, rows) for target in TARGETS],
    )


def rows_table(rows: Mapping[str, Row]) -> str:
    """Every other row."""
    judged = {target.row for target in TARGETS}
    return _table(
        ("what", "measured", "unit", "note"),
        [
            (row.what, number(row.measured), row.measured.unit, row.measured.note)
            for row in rows.values()
            if row.key not in judged
        ],
    )


def origin_table(about: Mapping[str, Mapping[str, Any]]) -> str:
    """Where each group's numbers come from."""
    return _table(
        ("rows", "commit", "machine", "measured", "minutes"),
        [
            (
                name,
                str(group["commit"])[:7]
                + ("-changed" if "changed" in str(group["commit"]) else ""),
                group["machine"],
                group["started"][:10],
                f"{group['seconds'] / 60:.1f}",
            )
            for name, group in about.items()
        ],
    )


def number(measured: Measured) -> str:
    """The median with its quartiles."""
    value = measured.value
    if value is None:
        return ""
    if value.rounds == 1:
        return f"{value.median:.3g}"
    quartiles = f"{value.low:.3g} to {value.high:.3g}"
    return f"{value.median:.3g} ({quartiles}, {value.rounds} rounds)"


def _target_cells(target: Target, rows: Mapping[str, Row]) -> tuple[str, ...]:
    row = rows.get(target.row)
    measured = "" if row is None else number(row.measured)
    verdict = target.verdict(rows)
    if row is not None and row.measured.value is not None and row.measured.note:
        measured += f"; {row.measured.note}"
    return target.what, f"{target.direction} {target.bound:g}", measured, verdict


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
