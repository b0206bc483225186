"""Findings of a study of doses: borders under each remedy, and the mismatch at each dose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadyrl.lab.borders import Border, Effect, Outcomes, effect, factor
from steadyrl.lab.dose import Dial, DoseStudy, Event, Runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The border of an event under a remedy, and how it compares with that under none."""

    dial: Dial
    remedy: str
    event: Event
    outcomes: Outcomes
    border: Border

    effect: Effect | None
    """None for the first remedy, which is none at all, and without a run."""

    factor: Border | None

    @property
    def shown(self) -> int:
        """Number of runs that showed the event."""
        return sum(shown for _, shown in self.outcomes)


def findings_of(study: DoseStudy, runs: Runs) -> list[Finding]:
    """Every border of `study`: by dial, by event, by remedy."""
    return [finding for dial in study.dials for finding in _findings(study, runs, dial)]


def _findings(study: DoseStudy, runs: Runs, dial: Dial) -> list[Finding]:
    posteriors = {remedy: study.posteriors(dial, remedy, runs) for remedy in dial.remedies}
    findings = []
    for event in Event:
        borders = {remedy: of_event[event].border for remedy, of_event in posteriors.items()}
        none, *_ = borders.values()
        for remedy, border in borders.items():
            outcomes = study.outcomes(dial, remedy, event, runs)
            compared = border is not none and bool(outcomes)
            findings.append(
                Finding(
                    dial=dial,
                    remedy=remedy,
                    event=event,
                    outcomes=outcomes,
                    border=border,
                    effect=effect(border, none) if compared else None,
                    factor=factor(border, none) if compared else None,
                )
            )
    return findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The discrepancy of engine and trainer at a dose, without a remedy, early in training."""

    dose: float
    k3: float
    """Geometric mean over runs of the first bin's k3."""

    disagreement: float | None
    """Share of the experts that the trainer chooses and the engine did not."""


def mismatches(dial: Dial, runs: Runs) -> list[Mismatch]:
    """The mismatch at every dose that was run without a remedy."""
    none = next(iter(dial.remedies))
    found = []
    for dose in dial.doses:
        at_dose = runs[dial.at(none, dose)].values()
        of_dose = [run for run in at_dose if run.curve("mismatch_kl_k3").size]
        if not of_dose:
            continue
        k3 = np.array([run.curve("mismatch_kl_k3")[0] for run in of_dose])
        routing = [run.curve("routing_disagreement")[:1] for run in of_dose]
        found.append(
            Mismatch(
                dose=dose,
                k3=float(np.exp(np.log(np.maximum(k3, 1e-12)).mean())),
                disagreement=float(np.mean(routing)) if routing[0].size else None,
            )
        )
    return found


def dose_of_k3(measured: Sequence[Mismatch], k3: float) -> float | None:
    """The dose with this mismatch, between doses that were run; None beyond all of them."""
    values = [at.k3 for at in measured]
    if not values or not min(values) < k3 < max(values):
        return None
    doses = np.log([at.dose for at in measured])
    return float(np.exp(np.interp(np.log(k3), np.log(np.sort(values)), doses)))
