"""The rule of remedies: made from the borders of the doses, tested on fresh runs.

Stated before the fresh runs:

1. Measured values are means over the gradient steps `EARLY` of a run without a remedy, the first
   sixteen after the warm-up.
2. The limit of an origin under a remedy is the value at the median border of losing 0.05, read off
   the line through the logarithms of dose and value of all runs without a remedy.
3. A mismatch is one of routing if its disagreement lies above the middle, in logarithms, of the
   lines of disagreement against k3 of routing noise and of weight noise.
4. A run is predicted to keep its score if no origin exceeds its limit under the remedies in use.
   The first remedy that is predicted to keep it is the one that is needed.

The test runs every remedy at doses between those of the borders, on seeds that no border uses; in
other worlds, too, with controls of their own. It compares the prediction with the final score.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steadyrl.analysis.remedy_rule import InUse, Measured, Origin, RemedyRule
from steadyrl.lab.dose import CONTROLS, Dial, DoseStudy, Event, Runs
from steadyrl.lab.records import BIN, RunRecord
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.objectives import MiniRL
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

EARLY = (16, 32)
"""Gradient steps over which values are measured."""

SEEDS = (300, 301)

ORIGINS = {
    "routing noise": Origin.ROUTING,
    "weight noise": Origin.NUMERICS,
    "staleness": Origin.STALENESS,
    "learning rate": Origin.STEP_SIZE,
}

FRESH_DOSES = {
    "routing noise": (0.149, 0.297, 0.595, 1.19, 2.38),
    "weight noise": (0.0186, 0.0372, 0.0743, 0.149, 0.297),
    "staleness": (2.0, 8.0, 16.0, 32.0, 64.0),
    "learning rate": (1.68, 3.36, 6.73, 13.5, 26.9),
}
"""Between the doses of the borders; of staleness, where there are none, among them."""

SMALLEST = 1e-12


def measured(run: RunRecord, mini_batches: int) -> Measured:
    """The values of a run without a remedy."""
    disagreement = _early(run, "routing_disagreement")
    return Measured(
        mismatch=_early(run, "mismatch_kl_k3") or SMALLEST,
        disagreement=disagreement,
        staleness=_early(run, "staleness_kl_k3") or 0.0,
        mini_batches=mini_batches,
    )


def _early(run: RunRecord, metric: str) -> float | None:
    """The mean over the gradient steps `EARLY`, or the last value before; None without any."""
    values = run.curve(metric)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    first, last = (steps // BIN for steps in EARLY)
    early = values[first:last] if len(values) > first else values[-1:]
    return float(early.mean())


def in_use(config: RunConfig) -> InUse:
    """The remedies that a run uses."""
    objective = config.algorithm.model_dump()["objective"]
    minirl = MiniRL.model_validate(objective)
    return InUse(
        importance_weights=minirl.correct_mismatch,
        clipping=math.isfinite(minirl.clip_high),
        replay=config.replay_to_begin_with.value,
    )


def made_rule(study: DoseStudy, runs: Runs) -> RemedyRule:
    """The rule of the borders of `study`. Dials and remedies without runs have no limit."""
    limits: dict[Origin, dict[str, float]] = {}
    for dial in study.dials:
        line = _line(dial, runs)
        if line is None:
            continue
        origin = ORIGINS[dial.name]
        for remedy in dial.remedies:
            if not study.taken(dial, remedy, runs):
                continue
            border = study.posteriors(dial, remedy, runs)[Event.LOSES].border.dose
            column = in_use(_config(study, dial.at(remedy, dial.doses[0]))).against(origin)
            limits.setdefault(origin, {})[column] = _value_at(border, line)
    return RemedyRule(limits=limits, split=_split(study, runs))


def _config(study: Study, name: str) -> RunConfig:
    return next(condition.config for condition in study.conditions if condition.name == name)


def _without_remedy(dial: Dial, runs: Runs) -> list[tuple[float, Measured]]:
    none = next(iter(dial.remedies))
    by_dose = {dose: runs.get(dial.at(none, dose), {}) for dose in dial.doses}
    return [
        (dose, measured(run, dial.turn(dial.control, dose).algorithm.gradient_steps))
        for dose, of_dose in by_dose.items()
        for run in of_dose.values()
    ]


def _line(dial: Dial, runs: Runs) -> tuple[float, float] | None:
    """Slope and shift of the logarithm of the value of a dial's origin against that of its dose."""
    origin = ORIGINS[dial.name]
    rule = RemedyRule(limits={}, split=(-math.inf, 0.0) if origin is Origin.ROUTING else None)
    found = [
        (dose, value)
        for dose, values in _without_remedy(dial, runs)
        if (value := rule.values(values)[origin]) > SMALLEST
    ]
    return _fitted(found)


def _fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    if len({x for x, _ in points}) < 2:
        return None
    x, y = np.log(np.array(points, dtype=np.float64)).T
    slope, shift = np.polyfit(x, y, 1)
    return float(slope), float(shift)


def _value_at(dose: float, line: tuple[float, float]) -> float:
    if dose == 0 or math.isinf(dose):
        return dose
    slope, shift = line
    return math.exp(shift + slope * math.log(dose))


def _split(study: DoseStudy, runs: Runs) -> tuple[float, float] | None:
    """The middle between the lines of disagreement of routing noise and of weight noise."""
    lines = []
    for dial in study.dials:
        if ORIGINS[dial.name] not in (Origin.ROUTING, Origin.NUMERICS):
            continue
        line = _fitted(
            [
                (values.mismatch, values.disagreement)
                for _, values in _without_remedy(dial, runs)
                if values.disagreement
            ]
        )
        if line is not None:
            lines.append(line)
    if len(lines) < 2:
        return None
    slope, shift = np.mean(lines, axis=0)
    return float(shift), float(slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStudy(Study):
    """Fresh runs that test the rule. Its conditions are those of `dials`, without the controls."""

    dials: tuple[Dial, ...]

    control_seeds: tuple[int, ...]

    @property
    def controls(self) -> Study:
        """The runs at dose 0, whose mean final score is what a run can lose."""
        return Study(
            experiment=f"{self.experiment}-controls",
            level=self.level,
            title=f"{self.title}, controls",
            conditions=tuple(
                Condition(name=dial.control_name, config=dial.control) for dial in self.dials
            ),
            claims=(),
            seeds=self.control_seeds,
        )

    def quick(self) -> "RuleStudy":
        """A small form: the first dial on one seed."""
        dial = self.dials[0]
        return replace(
            self,
            level=f"{self.level}-quick",
            title=f"{self.title}, quick form",
            dials=(dial,),
            conditions=tuple(_treated(dial)),
            seeds=self.seeds[:1],
        )


def rule_study(
    dials: Sequence[Callable[[Numerics], Dial]],
    numerics: Numerics,
    *,
    world: str | None = None,
) -> RuleStudy:
    """The test of the rule in the world of the doses, or in another one of `WORLDS`.

    In another world the dial of the learning rate is left out: its dose is relative to a rate that
    was chosen for the first one.
    """
    made = [dial(numerics) for dial in dials]
    if world is None:
        fresh = [replace(dial, doses=FRESH_DOSES[dial.name]) for dial in made]
    else:
        fresh = [_elsewhere(dial, WORLDS[world]) for dial in made if dial.name != "learning rate"]
    return RuleStudy(
        experiment="rule" if world is None else f"rule-{world}",
        level=numerics,
        title=f"Rule of remedies, {'fresh runs' if world is None else f'{world} world'}",
        dials=tuple(fresh),
        conditions=tuple(condition for dial in fresh for condition in _treated(dial)),
        claims=(),
        seeds=SEEDS if world is None else SEEDS[:1],
        # Those of the borders where they are of the same world; their runs are there.
        control_seeds=tuple(range(CONTROLS if world is None else 3)),
        measures=("best_score", "final_score", "mean_score", "final_reward", "log10_mismatch"),
    )


def _treated(dial: Dial) -> list[Condition]:
    """The conditions of `dial` without its control."""
    return [each for each in dial.conditions() if each.name != dial.control_name]


def _elsewhere(dial: Dial, change: Mapping[str, object]) -> Dial:
    """`dial` in another world, at three doses, without a remedy and with the last."""
    names = list(dial.remedies)
    return replace(
        dial,
        control=_nested(dial.control, change),
        doses=FRESH_DOSES[dial.name][::2],
        remedies={name: dial.remedies[name] for name in (names[0], names[-1])},
    )


def _nested(config: RunConfig, change: Mapping[str, object]) -> RunConfig:
    values = config.model_dump()
    blocks = {
        name: values[name] | block if isinstance(block, dict) else block
        for name, block in change.items()
    }
    return changed(config, **blocks)


WORLDS: dict[str, dict[str, object]] = {
    "deeper": {"model": SmallMoE(layers=6).model_dump()},
    "longer": {"environment": {"operands": 6}, "sampling": {"max_new_tokens": 24}},
    "long": {"environment": {"operands": 5}, "sampling": {"max_new_tokens": 20}},
}
"""Worlds that no border was measured in, by what differs: twice the layers; chains of six operands,
whose answers have about fourteen tokens in place of eight; chains of five. The last was added when
the controls of six had turned out to solve nothing, so that none of their runs can lose."""
