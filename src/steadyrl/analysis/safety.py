"""Verdicts on a setup: which measured value is safe, by which limit, and where the limit is from.

    value --> LIMITS[question].judge --> Finding: safe, watch or unsafe

`steadyrl preflight` asks all questions before a run. Every run answers those that its first step
measures anyway.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from steadyrl.analysis.remedy_rule import Origin, measured_rule
from steadyrl.base.wording import short_number


class Verdict(StrEnum):
    """Safety of a setup, judged from one measured value."""

    SAFE = "safe"

    WATCH = "watch"
    """Beyond what is known to be safe."""

    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyLimit:
    """Limits between safe, watch and unsafe for one question.

    Example:
        SafetyLimit(title="Answers cut short", above=True, safe=0.1, unsafe=0.5, source="a rule")
    """

    title: str

    above: bool
    """Whether trouble lies above the limits, or below."""

    safe: float | None
    """The last value that is safe. None: not known."""

    unsafe: float | None
    """Values beyond it are not. None: not known."""

    source: str

    def judge(self, value: float) -> Verdict:
        """The verdict on `value`; one that is not a number is not safe."""
        if self.unsafe is not None and not self._within(value, self.unsafe):
            return Verdict.UNSAFE
        if self.safe is None or not self._within(value, self.safe):
            return Verdict.WATCH
        return Verdict.SAFE

    def _within(self, value: float, limit: float) -> bool:
        return value <= limit if self.above else value >= limit

    @property
    def text(self) -> str:
        """Both limits in words: `safe to 0.002, unsafe above 0.05`."""
        to, beyond = ("to", "above") if self.above else ("from", "below")
        parts = [] if self.safe is None else [f"safe {to} {short_number(self.safe)}"]
        parts += [] if self.unsafe is None else [f"unsafe {beyond} {short_number(self.unsafe)}"]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer to a question.

    Example:
        Finding(question="truncated", value=0.02, verdict=Verdict.SAFE)
    """

    question: str

    value: float | None
    """None where it was not measured."""

    verdict: Verdict | None
    """None where nothing was measured, or no limit is known."""

    detail: str = ""
    """Explanation of the value, or the reason why it is missing."""

    @classmethod
    def of(cls, question: str, value: float, detail: str = "") -> "Finding":
        """The finding for a measured value."""
        verdict = LIMITS[question].judge(value)
        return cls(question=question, value=value, verdict=verdict, detail=detail)

    @classmethod
    def missing(cls, question: str, reason: str) -> "Finding":
        """The finding for what could not be measured."""
        return cls(question=question, value=None, verdict=None, detail=reason)

    @property
    def limit(self) -> SafetyLimit:
        """The limits of its question."""
        return LIMITS[self.question]


def _limits() -> dict[str, SafetyLimit]:
    folder = files("steadyrl.analysis")
    texts = tomllib.loads((folder / "limits.toml").read_text(encoding="utf-8"))
    measured = json.loads((folder / "measured_limits.json").read_text(encoding="utf-8"))["limits"]
    return {name: _limit(entry, measured) for name, entry in texts.items()}


def _limit(entry: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> SafetyLimit:
    own = measured[entry["measured"]] if "measured" in entry else {}
    border = f"; {_border_text(*entry['border'])}" if "border" in entry else ""
    return SafetyLimit(
        title=entry["title"],
        above=entry["direction"] == "above",
        safe=entry.get("safe", own.get("safe")),
        unsafe=entry.get("unsafe", own.get("unsafe")),
        source=f"{entry['source']}{border}",
    )


def _border_text(origin: str, remedy: str) -> str:
    limit = measured_rule().limits[Origin(origin)][remedy]
    return f"half of the runs of a small world lose 0.05 of accuracy at {short_number(limit)}"


LIMITS: dict[str, SafetyLimit] = _limits()
"""The limits of each question, in the order of a preflight's table."""

FIRST_STEP = {
    "kl": "mismatch_kl_k3",
    "extreme_tokens": "extreme_token_fraction",
    "truncated": "truncated_fraction",
    "no_signal": "no_signal_fraction",
}
"""Questions that the first step of a run answers, and its metric."""


def first_step_findings(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings of a run's first step, as far as `metrics` has them."""
    for question, metric in FIRST_STEP.items():
        if isinstance(metrics.get(metric), int | float):
            yield Finding.of(question, float(metrics[metric]))


def first_step_note(metrics: Mapping[str, Any]) -> str | None:
    """A note of what is not safe at a run's first step; None where all of it is."""
    found = [f for f in first_step_findings(metrics) if f.verdict is not Verdict.SAFE]
    if not found:
        return None
    parts = [
        f"{f.limit.title}: {short_number(f.value or 0.0)}, {f.verdict} ({f.limit.text})"
        for f in found
    ]
    return f"First step: {'; '.join(parts)}. `steadyrl preflight` asks the other questions, too."
