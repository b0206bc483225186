"""Results of a preflight."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from steadyrl.analysis.safety import Finding, Verdict
from steadyrl.run.memory_plan import MemoryPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time and memory of a run, extrapolated from a short rollout and one update.

    Example:
        Cost(step_seconds=21.0, run_seconds=640.0, peak_bytes=3 << 30)
    """

    step_seconds: float
    """Rollout, scoring and updates of one step in which every group has signal."""

    run_seconds: float
    """All steps and evaluations, without the cold start."""

    peak_bytes: int
    """Measured peak of the preflight, less what the process took before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answers to all questions.

    Example:
        Report(findings=[Finding.of("truncated", 0.02)], plan=plan)
    """

    findings: Sequence[Finding]
    plan: MemoryPlan

    cost: Cost | None = None
    """None where the run does not fit into memory, and nothing was loaded."""

    notes: Sequence[str] = ()

    tokens: int = 0
    """Sampled tokens on which engine and trainer were compared."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the preflight."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all findings."""
        found = {finding.verdict for finding in self.findings}
        return next((v for v in (Verdict.UNSAFE, Verdict.WATCH) if v in found), Verdict.SAFE)

    def to_values(self) -> dict[str, Any]:
        """Everything as JSON holds it."""
        return {
            "verdict": self.verdict.value,
            "findings": [_values(finding) for finding in self.findings],
            "memory": asdict(self.plan) | {"peak": self.plan.peak, "least": self.plan.least},
            "cost": None if self.cost is None else asdict(self.cost),
            "tokens": self.tokens,
            "notes": list(self.notes),
            "settings": dict(self.settings),
        }


def _values(finding: Finding) -> dict[str, Any]:
    limit = finding.limit
    return {
        "question": finding.question,
        "title": limit.title.strip(),
        "value": finding.value,
        "verdict": None if finding.verdict is None else finding.verdict.value,
        "safe": limit.safe,
        "unsafe": limit.unsafe,
        "source": limit.source,
        "detail": finding.detail,
    }
