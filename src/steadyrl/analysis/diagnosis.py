"""Whether a run is sound, about to collapse or collapsed: when, why, and what to change.

    run folder -> run_data -> faults (is the set-up sound?)       -> Diagnosis
                           -> signals (what left its normal range?) -> causes

It reads `config.yaml` and `metrics.jsonl` only, so any run can be diagnosed anywhere, while it runs
too. `benchmarks/injected_faults.py` measures how well.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from steadyrl.analysis.causes import Cause, cause_of
from steadyrl.analysis.faults import fault_of
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.remarks import remarks_of
from steadyrl.analysis.run_data import RunData, Stage
from steadyrl.analysis.run_settings import run_settings
from steadyrl.analysis.signals import Departure, departures
from steadyrl.analysis.task_faults import forgetting
from steadyrl.base.errors import UserError
from steadyrl.base.wording import count

READ = (
    "reward",
    "entropy",
    "mismatch_kl_k3",
    "extreme_token_fraction",
    "ess",
    "staleness_kl_k3",
    "gradient_norm",
    "surprisal_gap_z",
    "temperature_ratio",
    "routing_disagreement",
    "environment_failed_fraction",
    "no_signal_fraction",
)
"""Metrics that a diagnosis rests on."""


class Status(StrEnum):
    """What a run is, the worst first."""

    COLLAPSED = "collapsed"
    """It has lost half of its best reward and not regained it."""

    FAULT = "fault"
    """Its set-up is wrong; it may still learn."""

    ABOUT_TO_COLLAPSE = "about to collapse"
    """A signal is outside its normal range."""

    FORGETTING = "forgetting"
    """It loses what it was not trained on, whatever becomes of its tasks."""

    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the metrics of a run say of it."""

    status: Status

    step: int | None
    """Since when it is so; None for a healthy run."""

    cause: Cause | None
    """None for a healthy run."""

    evidence: tuple[Departure, ...]
    """What left its normal range, the first one first. Some of it may have come back."""

    steps: int
    """How many were read."""

    missing: tuple[str, ...]
    """Metrics that the run did not record, so that nothing rests on them."""

    remarks: tuple[str, ...] = ()
    """What else is worth a look. It changes no status."""

    @property
    def heading(self) -> str:
        """The status and since when it is so."""
        if self.status is Status.HEALTHY:
            return self.status.value
        word = "at" if self.status is Status.COLLAPSED else "since"
        return f"{self.status} {word} step {self.step}"

    @property
    def evidence_in_words(self) -> tuple[str, ...]:
        """A sentence for each departure, the first one first."""
        back = " It has come back since."
        return tuple(d.finding + ("" if d.lasting else back) for d in self.evidence)


def diagnose(run: RunData) -> Diagnosis:
    """The diagnosis of the run's reinforcement stage.

    Raises:
        UserError: the run has no such stage yet, or its configuration cannot be read.
    """
    stage = _reinforcement(run)
    settings = run_settings(run.config)
    fault = fault_of(stage, settings)
    forgotten = forgetting(stage, settings)
    found = departures(stage, settings)
    lasting = [departure for departure in found if departure.lasting]
    collapse = next((departure for departure in found if departure.metric == "reward"), None)
    step, cause = None, None
    if fault is not None:
        status, step, cause = Status.FAULT, fault.evidence.step, fault.cause
    elif lasting:
        status, step = Status.ABOUT_TO_COLLAPSE, lasting[0].step
        cause = cause_of(stage, found if collapse else lasting, settings)
    elif forgotten is not None:
        status, step, cause = Status.FORGETTING, forgotten.evidence.step, forgotten.cause
    else:
        status = Status.HEALTHY
    if collapse is not None:
        status, step = Status.COLLAPSED, collapse.step
    return Diagnosis(
        status=status,
        step=step,
        cause=cause,
        evidence=(*(f.evidence for f in (fault, forgotten) if f is not None), *found),
        steps=stage.last_step,
        missing=tuple(name for name in READ if stage.series(name) is None),
        remarks=remarks_of(run),
    )


def has_reinforcement(run: RunData) -> bool:
    """Whether there is a step of reinforcement, so that the run can be diagnosed."""
    return any(stage.last_step for stage in run.stages if stage.name != "cold_start")


def _reinforcement(run: RunData) -> Stage:
    stages = [stage for stage in run.stages if stage.name != "cold_start"]
    if not has_reinforcement(run):
        raise UserError(
            f"The run {run.name} has no reinforcement step yet. Let it run to its first one."
        )
    return stages[-1]


def as_values(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as what JSON holds."""
    return asdict(diagnosis)


def as_text(name: str, diagnosis: Diagnosis) -> str:
    """The diagnosis of the run `name` for a reader, one fact a line."""
    lines = [f"{name}: {diagnosis.heading}, {count(diagnosis.steps, 'step')} read"]
    if diagnosis.cause is not None:
        cause = diagnosis.cause
        lines += [f"cause: {cause.name}", f"why: {cause.reason}", f"change: {cause.change}"]
    if diagnosis.evidence:
        lines += ["evidence, the first to move first:"]
    lines += [f"  {sentence}" for sentence in diagnosis.evidence_in_words]
    if diagnosis.remarks:
        lines += ["worth a look:", *(f"  {remark}" for remark in diagnosis.remarks)]
    if diagnosis.missing:
        titles = ", ".join(text_for(metric).title for metric in diagnosis.missing)
        lines.append(f"not recorded, so nothing rests on it: {titles}")
    return "\n".join(lines)
