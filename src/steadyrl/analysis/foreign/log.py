"""Rows of a log, under the names that their trainer gave them."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)"
"""A number as Python, JSON or W&B write it."""

LONGEST = 1000
"""Characters beyond which a text is no number."""

MISSING = frozenset({"none", "null", "n/a", "#n/a", "na", "<na>"})
"""Texts of a missing number, in lower case."""

_NUMBER = re.compile(rf"(?:\w[\w.]*\()?({NUMBER})\)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """What a log says at one moment.

    Example:
        LogRow(step=3, values={"critic/score/mean": 0.4})
    """

    values: Mapping[str, float]

    step: int | None = None
    """The step by the layout's own counting; None if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The rows of a log in the order in which they were written."""

    layout: str
    """How they lie in their file, in words."""

    rows: tuple[LogRow, ...]

    remarks: tuple[str, ...] = ()
    """What could not be read, in sentences."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All names, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


STEPS = ("step", "global_step", "Step", "_step")
"""Names of the step where the trainer's own is not known yet. W&B counts calls in `_step`."""


def to_number(value: Any) -> float | None:
    """`value` as a number; NaN for a missing one (None); None for what is not a number.

    Texts count if they are a number, also as NumPy prints it: `np.float64(0.5)`, or mean that it is
    missing, as `None` does.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # an integer beyond all numbers
            return math.inf if value > 0 else -math.inf
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    text = value.strip()
    found = _NUMBER.fullmatch(text)
    if found is None:
        return math.nan if text.lower() in MISSING else None
    return float(found[1])


def to_step(value: Any) -> int | None:
    """`value` as the number of a step; None if it is not a whole number."""
    number = to_number(value)
    return int(number) if number is not None and number.is_integer() else None


def numbers_in(values: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """The numbers among named values."""
    pairs = ((name, to_number(value)) for name, value in values)
    return {name: number for name, number in pairs if number is not None}
