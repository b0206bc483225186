"""Dose and response: how much of one cause of instability a run bears, with a remedy and without.

A dial sets the dose of one cause and leaves the rest alone: rollouts in float32 have no other
mismatch than the dial's. A run can show either of two events. The border of an event is the dose at
which half of the runs show it.

The design was stated before its runs. Each run under a remedy takes the next seed, and the dose
that `borders.Posterior` chooses after the runs before it, for the event whose border is not known
yet; if neither is, for the less certain one. It ends when both borders are known, or after `RUNS`
runs. So doses depend on the finished runs of that remedy and of the controls alone. `CONTROLS` runs
at dose 0, with the first seeds, tell what is lost.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from steadyrl.lab.borders import Outcomes, Posterior
from steadyrl.lab.measures import best_score, final_score
from steadyrl.lab.records import RunRecord
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

LOSS = 0.05
RUNS = 24
"""Maximum number of runs under a remedy."""

CONTROLS = 6

Runs = Mapping[str, Mapping[int, RunRecord]]
"""Finished runs by condition and seed."""


class Event(StrEnum):
    """What a run can show. Held-out tasks are answered by an engine without noise."""

    LOSES = "loses"
    """Its final held-out score lies `LOSS` or more below the mean of the controls."""

    COLLAPSES = "collapses"
    """Its final held-out score is less than half of its best one. Training reward, by which other
    studies judge a collapse, is sampled by the perturbed engine."""

    def shown_by(self, run: RunRecord, control_score: float) -> bool:
        """Whether `run` shows the event, where controls score `control_score` in the end."""
        if self is Event.LOSES:
            return final_score(run) <= control_score - LOSS
        return final_score(run) < 0.5 * best_score(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """One cause of instability, and remedies against it."""

    name: str

    axis: str
    """Label of its doses."""

    doses: tuple[float, ...]
    """Doses that can be run, rising."""

    remedies: Mapping[str, Mapping[str, object]]
    """Settings of the run or of its algorithm. The first is none at all."""

    control: RunConfig
    """The run at dose 0."""

    turn: Callable[[RunConfig, float], RunConfig]
    """The configuration at a dose."""

    def conditions(self) -> Iterator[Condition]:
        """The control, and every remedy at every dose."""
        yield Condition(name=self.control_name, config=self.control)
        for remedy, settings in self.remedies.items():
            for dose in self.doses:
                config = _treated(self.turn(self.control, dose), settings)
                yield Condition(name=self.at(remedy, dose), config=config)

    @property
    def control_name(self) -> str:
        """The name of the condition at dose 0."""
        return f"{self.name}: control"

    def at(self, remedy: str, dose: float) -> str:
        """The name of the condition with `remedy` at `dose`."""
        return f"{self.name}: {remedy}, {dose:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseStudy(Study):
    """Borders of dials. Its conditions are all that can be run, on seeds that can be."""

    dials: tuple[Dial, ...]

    @property
    def controls(self) -> tuple[int, ...]:
        """Seeds of the runs at dose 0."""
        return self.seeds[:CONTROLS]

    def of(self, dial: Dial) -> "DoseStudy":
        """The part of the study that one dial is."""
        return replace(self, dials=(dial,), conditions=tuple(dial.conditions()))

    def control_score(self, dial: Dial, runs: Runs) -> float:
        """The mean final held-out score at dose 0; nan without any run."""
        scores = [final_score(run) for run in runs[dial.control_name].values()]
        return float(np.mean(scores)) if scores else np.nan

    def taken(self, dial: Dial, remedy: str, runs: Runs) -> list[tuple[float, RunRecord]]:
        """The dose and the record of every run under `remedy`, by seed, each seed once.

        A seed has runs at two doses where another study made one of them. That of the border is the
        one that is chosen after the runs of the seeds before.
        """
        found: dict[int, dict[float, RunRecord]] = defaultdict(dict)
        for dose in dial.doses:
            for seed, run in runs[dial.at(remedy, dose)].items():
                found[seed][dose] = run
        score = self.control_score(dial, runs)
        taken: list[tuple[float, RunRecord]] = []
        for _, at in sorted(found.items()):
            chosen = _next_dose(_posteriors(dial, taken, score)) if len(at) > 1 else None
            dose = chosen if chosen in at else min(at)
            taken.append((dose, at[dose]))
        return taken

    def outcomes(self, dial: Dial, remedy: str, event: Event, runs: Runs) -> Outcomes:
        """The dose of every run under `remedy`, and whether it showed `event`."""
        return _outcomes(self.taken(dial, remedy, runs), event, self.control_score(dial, runs))

    def posteriors(self, dial: Dial, remedy: str, runs: Runs) -> dict[Event, Posterior]:
        """What the runs under `remedy` say of the border of each event."""
        taken = self.taken(dial, remedy, runs)
        return _posteriors(dial, taken, self.control_score(dial, runs))

    def next_run(self, dial: Dial, remedy: str, runs: Runs) -> RunConfig | None:
        """The next run under `remedy`, once all controls are finished; None at the end."""
        taken = self.taken(dial, remedy, runs)
        seeds = self.seeds[len(taken) :]
        dose = _next_dose(_posteriors(dial, taken, self.control_score(dial, runs)))
        if not seeds or dose is None:
            return None
        (condition,) = (c for c in self.conditions if c.name == dial.at(remedy, dose))
        return condition.run(seeds[0])

    def is_finished(self, runs: Runs) -> bool:
        """Whether no run is missing."""
        return all(
            set(self.controls) <= set(runs[dial.control_name])
            and all(self.next_run(dial, remedy, runs) is None for remedy in dial.remedies)
            for dial in self.dials
        )

    def quick(self) -> "DoseStudy":
        """A small form: the first dial, without a remedy and with the last, in eight runs each."""
        dial = self.dials[0]
        names = list(dial.remedies)
        small = replace(
            dial, remedies={name: dial.remedies[name] for name in (names[0], names[-1])}
        )
        return replace(
            self,
            level=f"{self.level}-quick",
            title=f"Borders of {small.name}, rollouts in {self.level}, quick form",
            dials=(small,),
            conditions=tuple(small.conditions()),
            seeds=self.seeds[:8],
        )


def _outcomes(taken: Sequence[tuple[float, RunRecord]], event: Event, score: float) -> Outcomes:
    return [(dose, event.shown_by(run, score)) for dose, run in taken]


def _posteriors(
    dial: Dial, taken: Sequence[tuple[float, RunRecord]], score: float
) -> dict[Event, Posterior]:
    return {event: Posterior(dial.doses, _outcomes(taken, event, score)) for event in Event}


def _next_dose(posteriors: Mapping[Event, Posterior]) -> float | None:
    """The dose that tells most of the border that is known worse; None if both are known."""
    unknown = [posterior for posterior in posteriors.values() if not posterior.border.is_known]
    if not unknown:
        return None
    return max(unknown, key=lambda posterior: posterior.deviation).next_dose()


def dose_study(
    experiment: str, dials: Sequence[Callable[[Numerics], Dial]], numerics: Numerics
) -> DoseStudy:
    """The study of `dials`."""
    made = tuple(dial(numerics) for dial in dials)
    return DoseStudy(
        experiment=experiment,
        level=numerics,
        title=f"Borders of {', '.join(dial.name for dial in made)}, rollouts in {numerics}",
        dials=made,
        conditions=tuple(condition for dial in made for condition in dial.conditions()),
        claims=(),
        seeds=tuple(range(RUNS)),
        measures=("best_score", "final_score", "mean_score", "final_reward", "log10_mismatch"),
    )


def _treated(config: RunConfig, remedy: Mapping[str, object]) -> RunConfig:
    """`config` with the settings of a remedy, of the run or of its algorithm."""
    own = {name: value for name, value in remedy.items() if name in RunConfig.model_fields}
    algorithm = config.algorithm.model_copy(
        update={name: value for name, value in remedy.items() if name not in own}
    )
    return changed(config, algorithm=algorithm.model_dump(), **own)
