from pathlib import Path

from benchmarks.performance.records import (
    LONGEST_ERROR,
    Measured,
    Row,
    Spread,
    attempt,
    read_about,
    read_rows,
    write_group,
)

SPREAD = Spread(median=4.2, low=4.1, high=4.4, rounds=5)


def test_what_a_group_wrote_is_read_again(tmp_path: Path) -> None:
    row = Row(
        key="a", what="ours", measured=Measured(value=SPREAD, unit="x", details={"seconds": 1.0})
    )
    none = Row(key="b", what="theirs", measured=Measured(value=None, unit="", note="no wheel"))

    write_group("one", [row, none], {"commit": "abc"}, tmp_path)
    write_group("two", [], {"commit": "def"}, tmp_path)

    assert read_rows(tmp_path) == {"a": row, "b": none}
    assert read_about(tmp_path) == {"one": {"commit": "abc"}, "two": {"commit": "def"}}


def test_a_peer_that_fails_leaves_its_reason_in_the_row() -> None:
    def measure() -> Measured:
        raise OSError("no\n  such wheel " + 1000 * "x")

    row = attempt("a", "theirs", measure)

    assert row.measured.value is None
    assert row.measured.note.startswith("OSError: no such wheel xxx")
    assert len(row.measured.note) == LONGEST_ERROR


def test_a_peer_that_runs_leaves_its_number() -> None:
    measured = Measured(value=SPREAD, unit="x")

    assert attempt("a", "theirs", lambda: measured).measured is measured
