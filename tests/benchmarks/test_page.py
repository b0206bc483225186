from pathlib import Path

import pytest
from benchmarks.performance.page import between_marks, number, redraw, targets_table
from benchmarks.performance.records import Measured, Row, Spread, exact, write_group
from benchmarks.performance.targets import TARGETS


def row(key: str, value: Spread | None, note: str = "") -> Row:
    return Row(key=key, what=f"what of {key}", measured=Measured(value=value, unit="x", note=note))


def line(table: str, what: str) -> list[str]:
    (found,) = [text for text in table.splitlines() if text.startswith(f"| {what} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_each_target_has_a_number_and_a_verdict() -> None:
    rows = {
        entry.key: entry
        for entry in (
            row("rollout-w2-generate", Spread(median=4.0, low=3.5, high=4.5, rounds=3)),
            row("update-w2-bare", exact(1.2)),
            row("rollout-w1-vllm", None, "RuntimeError: no wheel"),
        )
    }
    table = targets_table(rows)

    assert line(table, "rollout tokens/s, W2, against Transformers generate")[1:] == [
        "at least 4",
        "4 (3.5 to 4.5, 3 rounds)",
        "met",
    ]
    bare = "update time, all groups with signal, W2, of the bare loop's"
    assert line(table, bare)[1:] == ["at most 1.15", "1.2", "missed"]
    missing = line(table, "rollout tokens/s, W1, against vLLM on CPU")
    assert missing[3] == "not measured: RuntimeError: no wheel"
    assert line(table, "GPU, W3: update MFU in bf16")[3] == "not measured: no GPU"
    assert len(table.splitlines()) == 2 + len(TARGETS)


def test_a_page_is_redrawn_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    marks = "".join(
        f"<!-- {mark}:begin -->\nformer table\n<!-- {mark}:end -->\n"
        for mark in ("targets", "rows", "origin")
    )
    page.write_text(f"before\n{marks}after\n", encoding="utf-8")
    about = {
        "commit": "0123456789-changed",
        "machine": "M",
        "started": "2026-11-21T00",
        "seconds": 90,
    }
    write_group(
        "one", [row("update-w1-bare", exact(1.1)), row("extra", exact(2.0))], about, tmp_path
    )

    redraw(page, tmp_path)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- targets:begin -->\n| what |")
    assert text.endswith("<!-- origin:end -->\nafter\n")
    assert "former table" not in text
    assert "| at most 1.15 | 1.1 | met |" in text
    assert "| what of extra | 2 | x |  |" in text
    assert "| one | 0123456-changed | M | 2026-11-21 | 1.5 |" in text


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no marks <!-- targets:begin -->"):
        between_marks("nothing", "targets", "table")


def test_a_bar_inside_a_cell_does_not_open_another() -> None:
    table = targets_table({"memory-w4": row("memory-w4", None, "a | b")})

    assert "not measured: a \\| b" in table


def test_a_number_without_rounds_stands_alone() -> None:
    assert number(Measured(value=exact(0.123456), unit="x")) == "0.123"
    assert number(Measured(value=None, unit="x")) == ""
