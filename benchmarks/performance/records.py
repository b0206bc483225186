"""What was measured: rows, as a group writes them and the table reads them."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
"""Where the JSON of every benchmark is."""

LONGEST_ERROR = 400
"""Characters of an error's text that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A number with the quartiles over its rounds."""

    median: float
    low: float
    high: float

    rounds: int
    """Paired measurements behind it."""


def exact(value: float) -> Spread:
    """A number that does not vary from round to round."""
    return Spread(median=value, low=value, high=value, rounds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out of one comparison.

    Example:
        Measured(value=Spread(median=4.2, low=4.1, high=4.4, rounds=5), unit="x tokens/s",
                 details={"ours": {"tokens_per_second": 2500.0}})
    """

    value: Spread | None
    """What a target judges; None where nothing could be measured, with the reason in `note`."""

    unit: str

    details: Mapping[str, Any] = field(default_factory=dict)
    """What the number is made of."""

    note: str = ""
    """What a reader has to know beside the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison, by name."""

    key: str
    """What a target names it by."""

    what: str
    measured: Measured


def attempt(key: str, what: str, measure: Callable[[], Measured]) -> Row:
    """The row that `measure` makes, or one that says why it could not: a peer's failure is data."""
    try:
        measured = measure()
    except Exception as error:  # peers are foreign code
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_ERROR]
        measured = Measured(value=None, unit="", note=reason)
    return Row(key=key, what=what, measured=measured)


def write_group(
    name: str, rows: Iterable[Row], about: Mapping[str, Any], results: Path = RESULTS
) -> Path:
    """The path of the group's JSON."""
    path = results / f"performance_{name}.json"
    content = {**about, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def read_rows(results: Path = RESULTS) -> dict[str, Row]:
    """Every row that was ever written, by its key."""
    rows = {}
    for path in sorted(results.glob("performance_*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            measured = entry["measured"]
            if measured["value"] is not None:
                measured["value"] = Spread(**measured["value"])
            rows[entry["key"]] = Row(**entry | {"measured": Measured(**measured)})
    return rows


def read_about(results: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """What every group's file says beside its rows, by the group's name."""
    about = {}
    for path in sorted(results.glob("performance_*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["rows"]
        about[path.stem.removeprefix("performance_")] = content
    return about
