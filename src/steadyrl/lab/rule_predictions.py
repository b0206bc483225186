"""Predictions of the rule of remedies, beside what happened."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steadyrl.analysis.remedy_rule import Measured, RemedyRule
from steadyrl.lab.dose import LOSS, Dial, Runs
from steadyrl.lab.measures import final_score
from steadyrl.lab.rule import RuleStudy, in_use, measured

MEND = "mend the cause"
"""What is needed where no remedy suffices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the rule says of a run, and what happened."""

    dial: str
    dose: float
    seed: int
    remedy: str

    measured: Measured
    """By the run of the same dose and seed without a remedy."""

    keeps: bool
    """Predicted: it ends less than `LOSS` below the controls."""

    change: float
    """Its final score less the mean of the controls."""

    @property
    def kept(self) -> bool:
        """Whether it did."""
        return self.change > -LOSS


def control_scores(study: RuleStudy, controls: Runs) -> dict[str, float]:
    """The mean final score of the controls of each dial that has any."""
    scores = {
        dial.name: [final_score(run) for run in controls[dial.control_name].values()]
        for dial in study.dials
    }
    return {name: float(np.mean(of_dial)) for name, of_dial in scores.items() if of_dial}


def predictions(study: RuleStudy, rule: RemedyRule, runs: Runs, controls: Runs) -> list[Prediction]:
    """A prediction of every run whose controls and run without a remedy are there."""
    scores = control_scores(study, controls)
    return [
        each
        for dial in study.dials
        if dial.name in scores
        for each in _of_dial(study, dial, rule, runs, scores[dial.name])
    ]


def _of_dial(
    study: RuleStudy, dial: Dial, rule: RemedyRule, runs: Runs, control: float
) -> Iterator[Prediction]:
    configs = {condition.name: condition.config for condition in study.conditions}
    none = next(iter(dial.remedies))
    for dose in dial.doses:
        for seed, plain in runs[dial.at(none, dose)].items():
            values = measured(plain, configs[dial.at(none, dose)].algorithm.gradient_steps)
            for remedy in dial.remedies:
                name = dial.at(remedy, dose)
                run = runs[name].get(seed)
                if run is None:
                    continue
                yield Prediction(
                    dial=dial.name,
                    dose=dose,
                    seed=seed,
                    remedy=remedy,
                    measured=values,
                    keeps=rule.bears(values, in_use(configs[name])),
                    change=final_score(run) - control,
                )


def needs(found: Sequence[Prediction]) -> list[tuple[str, str]]:
    """Predicted and actual need of each dose and seed: the first remedy that keeps the score."""
    cases: dict[tuple[str, float, int], list[Prediction]] = {}
    for each in found:
        cases.setdefault((each.dial, each.dose, each.seed), []).append(each)
    return [
        (_first(case, lambda each: each.keeps), _first(case, lambda each: each.kept))
        for case in cases.values()
    ]


def _first(case: Sequence[Prediction], keeps: Callable[[Prediction], bool]) -> str:
    for number, each in enumerate(case):
        if keeps(each):
            return each.remedy if number else "nothing"
    return MEND
