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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from steadyrl.lab.borders import Outcomes, Posterior
from steadyrl.lab.dose_world import GRADIENT_STEPS, dose_world
from steadyrl.lab.measures import best_score, final_score
from steadyrl.lab.off_policy import REPLAYS
from steadyrl.lab.on_policy import ALGORITHMS, PLAIN, UNCORRECTED
from steadyrl.lab.records import RunRecord
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.lab.world import MINIRL, NO_CLIPPING
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
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
        """The dose and the record of every run under `remedy`, by seed."""
        found = [
            (seed, dose, run)
            for dose in dial.doses
            for seed, run in runs[dial.at(remedy, dose)].items()
        ]
        return [(dose, run) for _, dose, run in sorted(found, key=lambda each: each[0])]

    def outcomes(self, dial: Dial, remedy: str, event: Event, runs: Runs) -> Outcomes:
        """The dose of every run under `remedy`, and whether it showed `event`."""
        score = self.control_score(dial, runs)
        return [(dose, event.shown_by(run, score)) for dose, run in self.taken(dial, remedy, runs)]

    def posteriors(self, dial: Dial, remedy: str, runs: Runs) -> dict[Event, Posterior]:
        """What the runs under `remedy` say of the border of each event."""
        return {
            event: Posterior(dial.doses, self.outcomes(dial, remedy, event, runs))
            for event in Event
        }

    def next_run(self, dial: Dial, remedy: str, runs: Runs) -> RunConfig | None:
        """The next run under `remedy`, once all controls are finished; None at the end."""
        seeds = self.seeds[len(self.taken(dial, remedy, runs)) :]
        posteriors = self.posteriors(dial, remedy, runs).values()
        unknown = [posterior for posterior in posteriors if not posterior.border.is_known]
        if not seeds or not unknown:
            return None
        dose = max(unknown, key=lambda posterior: posterior.deviation).next_dose()
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
            title=f"{self.title}, quick form",
            dials=(small,),
            conditions=tuple(small.conditions()),
            seeds=self.seeds[:8],
        )


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


def routing_noise(numerics: Numerics) -> Dial:
    """The engine's choice of experts perturbed, four gradient steps a rollout: none, R2 or R3."""
    return Dial(
        name="routing noise",
        axis="standard deviation of the noise on the logarithms of the routers' scores",
        doses=_doses(0.125, 4.0),
        remedies={name: {"routing_replay": mode} for name, mode in REPLAYS.items()},
        control=dose_world(numerics, mini_batches=4),
        turn=lambda config, dose: _with(config, "engine", routing_noise=dose),
    )


def weight_noise(numerics: Numerics) -> Dial:
    """The engine's weights perturbed, fresh at each sync: with importance weights and without."""
    return Dial(
        name="weight noise",
        axis="relative standard deviation of the noise on the engine's weights",
        doses=_doses(1 / 64, 0.5),
        remedies={
            "no importance weights": {"objective": ALGORITHMS[UNCORRECTED].objective},
            "importance weights": {"objective": ALGORITHMS[PLAIN].objective},
        },
        control=dose_world(numerics, mini_batches=4),
        turn=lambda config, dose: _with(config, "engine", weight_noise=dose),
    )


def staleness(numerics: Numerics) -> Dial:
    """More gradient steps on each rollout, which is larger by as much: clipping and R2.

    R3 would replay what R2 does: without noise the engine chooses the experts of the trainer.
    """

    def turn(config: RunConfig, dose: float) -> RunConfig:
        steps = dose_world(numerics, mini_batches=int(dose))
        return changed(
            _with(config, "algorithm", mini_batches=int(dose)),
            steps=steps.steps,
            optimizer=steps.optimizer.model_dump(),
            evaluate_every=steps.evaluate_every,
            journal=steps.journal.model_dump(),
        )

    clipping = MINIRL.objective
    return Dial(
        name="staleness",
        axis="gradient steps on each rollout",
        doses=tuple(float(2**power) for power in range(1, GRADIENT_STEPS.bit_length())),
        remedies={
            "no clipping": {"objective": NO_CLIPPING.objective},
            "clipping": {"objective": clipping},
            "clipping, R2": {"objective": clipping, "routing_replay": RoutingReplay.R2},
        },
        control=dose_world(numerics, mini_batches=1),
        turn=turn,
    )


def step_size(numerics: Numerics) -> Dial:
    """A higher learning rate, four gradient steps a rollout: clipping and R3."""
    clipping = MINIRL.objective
    return Dial(
        name="learning rate",
        axis="learning rate, in multiples of the world's",
        doses=_doses(2**0.5, 32.0),
        remedies={
            "no clipping": {"objective": NO_CLIPPING.objective},
            "clipping": {"objective": clipping},
            "clipping, R3": {"objective": clipping, "routing_replay": RoutingReplay.R3},
        },
        control=dose_world(numerics, mini_batches=4),
        turn=lambda config, dose: _with(
            config, "optimizer", learning_rate=config.optimizer.learning_rate * dose
        ),
    )


def _doses(first: float, last: float) -> tuple[float, ...]:
    """Doses from `first` to `last`, each the square root of two times the one before."""
    count = round(2 * np.log2(last / first)) + 1
    return tuple(float(f"{dose:.3g}") for dose in np.geomspace(first, last, count))


def _treated(config: RunConfig, remedy: Mapping[str, object]) -> RunConfig:
    """`config` with the settings of a remedy, of the run or of its algorithm."""
    own = {name: value for name, value in remedy.items() if name in RunConfig.model_fields}
    algorithm = config.algorithm.model_copy(
        update={name: value for name, value in remedy.items() if name not in own}
    )
    return changed(config, algorithm=algorithm.model_dump(), **own)


def _with(config: RunConfig, block: str, **settings: Any) -> RunConfig:
    return changed(config, **{block: getattr(config, block).model_dump() | settings})
