"""The rule of remedies: how it is made of borders, and what tests it."""

import math

import pytest

from steadyrl.analysis.remedy_rule import InUse, Origin
from steadyrl.lab.catalog import DOSE_STUDIES, RULE_STUDIES
from steadyrl.lab.configurations import identity
from steadyrl.lab.dose import Dial, DoseStudy, Event
from steadyrl.lab.records import RunRecord
from steadyrl.lab.rule import FRESH_DOSES, in_use, made_rule, measured
from steadyrl.policies.numerics import Numerics
from tests.lab.made_up import record

Runs = dict[str, dict[int, RunRecord]]
WHOLE = DOSE_STUDIES["dose"](Numerics.FLOAT32)


def run_at(dose: float, seed: int, *, final: float, disagreement: float = 0.0) -> RunRecord:
    """A run whose k3 is a tenth of the dose's square, after two bins of warm-up."""
    made = record(
        [0.5] * 8, seed=seed, scores=[(0, 0.3), (64, final)], gradient_steps=64, mismatch=0.1
    )
    k3 = 0.1 * dose**2
    made.curves["mismatch_kl_k3"] = [9.0, 9.0, k3, k3, *[9.0] * 4]
    made.curves["routing_disagreement"] = [disagreement] * 8
    return made


def followed(dial: Dial, study: DoseStudy, border: float, disagreement: float) -> Runs:
    """Runs at every dose on one seed each: those above `border` lose."""
    runs: Runs = {condition.name: {} for condition in dial.conditions()}
    runs[dial.control_name] = {s: run_at(0.0, s, final=0.8) for s in study.controls}
    for remedy in dial.remedies:
        for seed, dose in enumerate(dial.doses):
            final = 0.8 if dose < border else 0.7
            runs[dial.at(remedy, dose)][seed] = run_at(
                dose, seed, final=final, disagreement=disagreement
            )
    return runs


def test_values_are_those_after_the_warm_up() -> None:
    values = measured(run_at(1.0, 0, final=0.8, disagreement=0.2), 4)
    assert values.mismatch == pytest.approx(0.1)
    assert values.disagreement == pytest.approx(0.2)
    assert values.mini_batches == 4


def test_limits_are_values_at_borders_and_the_split_lies_between_the_lines() -> None:
    routing, weights = WHOLE.dials[:2]
    runs = {condition.name: {} for condition in WHOLE.conditions}
    runs |= followed(routing, WHOLE, 0.6, 0.32)
    runs |= followed(weights, WHOLE, 0.1, 0.02)
    rule = made_rule(WHOLE, runs)

    for dial, remedy, column in (
        (routing, "no replay", "none"),
        (routing, "R3", "r3"),
        (weights, "no importance weights", "none"),
        (weights, "importance weights", "importance weights"),
    ):
        border = WHOLE.posteriors(dial, remedy, runs)[Event.LOSES].border.dose
        origin = Origin.ROUTING if dial is routing else Origin.NUMERICS
        assert rule.limits[origin][column] == pytest.approx(0.1 * border**2, rel=1e-6)
    assert Origin.STALENESS not in rule.limits
    assert rule.split is not None
    shift, slope = rule.split
    assert slope == pytest.approx(0, abs=1e-9)
    assert shift == pytest.approx(math.log(0.32 * 0.02) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULE_STUDIES)
def test_fresh_runs_share_none_with_the_borders(name: str) -> None:
    study = RULE_STUDIES[name](Numerics.FLOAT32)
    fresh = {identity(c.run(seed)) for c in study.conditions for seed in study.seeds}
    borders = {identity(c.run(seed)) for c in WHOLE.conditions for seed in WHOLE.seeds}

    assert len(fresh) == len(study.conditions) * len(study.seeds)
    assert not fresh & borders


def test_controls_are_those_of_the_borders_in_their_world_alone() -> None:
    borders = {identity(dial.control) for dial in WHOLE.dials}
    here, deeper = (RULE_STUDIES[name](Numerics.FLOAT32) for name in ("rule", "rule-deeper"))

    assert {identity(c.config) for c in here.controls.conditions} == borders
    assert here.controls.seeds == WHOLE.controls
    assert not {identity(c.config) for c in deeper.controls.conditions} & borders


def test_fresh_doses_lie_between_those_of_the_borders() -> None:
    for dial in WHOLE.dials:
        fresh = FRESH_DOSES[dial.name]
        assert dial.doses[0] <= min(fresh)
        assert max(fresh) <= dial.doses[-1]
        if dial.name != "staleness":
            assert not set(fresh) & set(dial.doses)


def test_remedies_are_read_off_a_configuration() -> None:
    configs = {condition.name: condition.config for condition in WHOLE.conditions}
    assert in_use(configs["weight noise: no importance weights, 0.25"]) == InUse(
        importance_weights=False
    )
    assert in_use(configs["staleness: no clipping, 8"]) == InUse(clipping=False)
    assert in_use(configs["routing noise: R3, 1"]) == InUse(replay="r3")
