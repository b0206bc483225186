"""Diagnosis of a run: sound, about to collapse or collapsed, since when, why, and what to change.

    rows -> stages_of -> fault_of (is the setup sound?)         -> Diagnosis
                      -> departures (what left its range?) -> cause_of

It needs metrics alone, so any run can be diagnosed anywhere, of any trainer, while it runs too.
`benchmarks/injected_faults.py` measures how well.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from steadyrl.analysis.border_remarks import border_remarks
from steadyrl.analysis.causes import Cause, CauseName, cause_of
from steadyrl.analysis.departures import Departure, departures
from steadyrl.analysis.faults import (
    fault_of,
    forgetting,
    no_signal_cause,
    reward_of_all,
    starved,
)
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.remarks import remarks_of
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage, reinforcement
from steadyrl.analysis.signals import MIN_STEPS, PATIENCE, SIGNALS
from steadyrl.base.errors import UserError
from steadyrl.base.wording import count, short_number

READ = (
    "reward",
    "entropy",
    *(signal.metric for signal in SIGNALS),
    "surprisal_gap_z",
    "temperature_ratio",
    "routing_disagreement",
    "no_signal_fraction",
)
"""Metrics that a diagnosis rests on."""


class Status(StrEnum):
    """The state of a run, the worst first."""

    COLLAPSED = "collapsed"
    """The run lost half of its best reward and has not regained it."""

    FAULT = "fault"
    """The setup is wrong; the run may still learn."""

    ABOUT_TO_COLLAPSE = "about to collapse"
    """A signal is outside its normal range."""

    FORGETTING = "forgetting"
    """The policy loses abilities that it is not trained on."""

    NOTHING_LEARNED = "nothing learned"
    """All answers earned the same, so there was nothing to learn from."""

    HEALTHY = "healthy"

    TOO_SHORT = "too few steps to tell"
    """Nothing is wrong so far, but too little is known to call it healthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The diagnosis of a run from its metrics."""

    status: Status

    step: int | None
    """Since when it is so; None for a run that is healthy or too short."""

    cause: Cause | None
    """None for a run that is healthy or too short."""

    evidence: tuple[Departure, ...]
    """Signals that left their normal range, by time. Some may have returned."""

    steps: int
    """Number of steps read."""

    missing: tuple[str, ...]
    """Metrics that the run did not record, so that nothing rests on them."""

    remarks: tuple[str, ...] = ()
    """Warnings that change no status."""

    only_reward: float | None = None
    """Reward of every answer, if all of them earned the same."""

    @property
    def heading(self) -> str:
        """The status and since when it is so, or what all answers earned."""
        if self.status is Status.NOTHING_LEARNED:
            return f"{self.status}: all rewards {short_number(self.only_reward or 0.0)}"
        if self.step is None:
            return self.status.value
        word = "at" if self.status is Status.COLLAPSED else "since"
        return f"{self.status} {word} step {self.step}"

    @property
    def is_alarm(self) -> bool:
        """Whether something is wrong that more steps will not change by themselves."""
        if self.status is Status.NOTHING_LEARNED:
            return self.steps >= PATIENCE
        return self.status not in (Status.HEALTHY, Status.TOO_SHORT)

    @property
    def findings(self) -> tuple[str, ...]:
        """A sentence for each departure, the first one first."""
        back = " It has come back since."
        return tuple(d.finding + ("" if d.lasting else back) for d in self.evidence)

    def to_values(self) -> dict[str, Any]:
        """The diagnosis as values that JSON can hold."""
        return asdict(self)

    def to_text(self, name: str) -> str:
        """The diagnosis of the run `name` for a reader, one fact a line."""
        lines = [f"{name}: {self.heading}, {count(self.steps, 'step')} read"]
        if self.cause is not None:
            lines.append(f"cause: {self.cause.name}")
            lines += [f"why: {self.cause.reason}", f"change: {self.cause.change}"]
        for title, sentences in (("evidence, in order", self.findings), ("warnings", self.remarks)):
            if sentences:
                lines += [f"{title}:", *(f"  {sentence}" for sentence in sentences)]
        if self.missing:
            titles = ", ".join(text_for(metric).title for metric in self.missing)
            lines.append(f"not recorded, so not considered: {titles}")
        return "\n".join(lines)


def diagnose(stages: Sequence[Stage], settings: RunSettings | None = None) -> Diagnosis:
    """The diagnosis of the last stage of reinforcement among `stages`.

    Example:
        diagnose(stages_of([{"step": 1, "reward": 0.4}, {"step": 2, "reward": 0.5}])).status

    Args:
        stages: Of one run, by `stages_of`.
        settings: What is known of the run's configuration. It decides which limits hold and which
            remedies fit.

    Raises:
        UserError: there is no step of reinforcement.
    """
    if not has_reinforcement(stages):
        raise UserError("The run has no reinforcement step yet. Let it run to its first one.")
    known = settings is not None
    stage, settings = reinforcement(stages)[-1], settings or RunSettings()
    found = departures(stage, settings)
    fault, forgotten = fault_of(stage, settings, found), forgetting(stage)
    lasting = [departure for departure in found if departure.lasting]
    collapse = next((departure for departure in found if departure.metric == "reward"), None)
    only_reward = reward_of_all(stage)
    enough = stage.last_step >= (PATIENCE if starved(stage) else MIN_STEPS)
    status, step, cause = Status.HEALTHY if enough else Status.TOO_SHORT, None, None
    if fault is not None:
        status, step, cause = Status.FAULT, fault.evidence.step, fault.cause
    elif lasting:
        status, step = Status.ABOUT_TO_COLLAPSE, lasting[0].step
        cause = cause_of(stage, found if collapse else lasting, settings)
    elif forgotten is not None:
        status, step, cause = Status.FORGETTING, forgotten.evidence.step, forgotten.cause
    if only_reward is not None and (cause is None or cause.name is CauseName.NO_SIGNAL):
        status, step, cause = Status.NOTHING_LEARNED, 1, cause or no_signal_cause(stage, 1.0)
    if collapse is not None:
        status, step = Status.COLLAPSED, collapse.step
    return Diagnosis(
        status=status,
        step=step,
        cause=cause,
        evidence=tuple(dict.fromkeys([f.evidence for f in (fault, forgotten) if f] + found)),
        steps=stage.last_step,
        missing=tuple(name for name in READ if stage.series(name) is None),
        remarks=(*remarks_of(stages), *(border_remarks(stage, settings) if known else ())),
        only_reward=only_reward,
    )


def has_reinforcement(stages: Sequence[Stage]) -> bool:
    """Whether there is a step of reinforcement, so that the run can be diagnosed."""
    return any(stage.last_step for stage in reinforcement(stages))
