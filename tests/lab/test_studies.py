"""Every study: what it runs is valid, and what it claims can be measured."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.errors import UserError
from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.claims import Claim, Comparison, greater
from steadyrl.lab.configurations import identity
from steadyrl.lab.measures import COMPARED, MEASURES
from steadyrl.lab.records import BIN
from steadyrl.lab.running import cold_start
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.lab.world import GRADIENT_STEPS
from steadyrl.objectives import Aggregation, MiniRL
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from tests.lab.made_up import study_of
from tests.run.tiny import tiny_run

EVERY_STUDY = pytest.mark.parametrize("make", STUDIES.values(), ids=STUDIES)


@EVERY_STUDY
def test_claims_speak_of_measures_that_exist(make: Callable[[Numerics], Study]) -> None:
    study = make(Numerics.FP8)
    assert study.claims or study.experiment in ("learning-rate", "dose-world")
    spoken_of = {c.measure for claim in study.claims for c in claim.comparisons}
    assert spoken_of <= set(study.measures) | COMPARED.keys()
    assert set(study.measures) <= MEASURES.keys()


@EVERY_STUDY
def test_conditions_differ_and_take_equally_many_gradient_steps(
    make: Callable[[Numerics], Study],
) -> None:
    study = make(Numerics.INT4)
    runs = [condition.run(seed) for condition in study.conditions for seed in study.seeds]
    assert len({identity(run) for run in runs}) == len(runs)
    assert len({run.steps * run.algorithm.gradient_steps for run in runs}) == 1
    assert all(run.engine.numerics is Numerics.INT4 for run in runs)
    taken = {run.algorithm.gradient_steps for run in runs}
    assert all(BIN % steps == 0 or steps % BIN == 0 for steps in taken)
    assert all(run.routing_replay != "auto" for run in runs)


@EVERY_STUDY
@pytest.mark.parametrize("numerics", [Numerics.FP8, Numerics.FLOAT32])
def test_conditions_of_equal_cold_start_share_it(
    make: Callable[[Numerics], Study], numerics: Numerics
) -> None:
    for condition in make(numerics).conditions:
        run = condition.run(0)
        start = cold_start(run)
        assert start.cold_start == run.cold_start
        ours = run.learner.model_copy(update={"rollout_logprobs": "engine"})
        assert identity(start) == identity(cold_start(changed(run, learner=ours.model_dump())))


@EVERY_STUDY
def test_the_small_form_is_a_quarter(make: Callable[[Numerics], Study]) -> None:
    study = make(Numerics.FP8)
    quick = study.quick()
    assert len(quick.seeds) == 2
    assert quick.name == f"{study.name}-quick"
    for small, whole in zip(quick.conditions, study.conditions, strict=True):
        assert small.config.steps == max(1, whole.config.steps // 4)
        assert small.config.cold_start == whole.config.cold_start


def test_the_paper_s_figures_have_its_conditions() -> None:
    def cells(name: str) -> set[tuple[object, ...]]:
        found = set()
        for condition in STUDIES[name](Numerics.FP8).conditions:
            settings = condition.config.algorithm
            objective = settings.objective
            assert isinstance(objective, MiniRL)
            found.add(
                (
                    settings.mini_batches,
                    condition.config.routing_replay,
                    objective.clip_high == float("inf"),
                    objective.correct_mismatch,
                    settings.aggregation,
                )
            )
        return found

    none, r2, r3 = RoutingReplay.NONE, RoutingReplay.R2, RoutingReplay.R3
    plain, normed = Aggregation.TOKEN_SUM, Aggregation.LENGTH_NORM
    assert cells("figure1") == {
        (1, replay, False, *rest)
        for replay in (none, r3)
        for rest in ((True, plain), (True, normed), (False, plain))
    }
    for name, mini_batches in (("figure2", 2), ("figure3", 4), ("figure4", 8)):
        assert cells(name) == {
            (mini_batches, replay, unclipped, True, plain)
            for replay in (none, r2, r3)
            for unclipped in (False, True)
        }


def test_figures_share_the_runs_they_have_in_common() -> None:
    def runs(name: str) -> set[str]:
        study = STUDIES[name](Numerics.FP8)
        return {identity(c.run(seed)) for c in study.conditions for seed in study.seeds}

    figures = runs("figure1") | runs("figure2") | runs("figure3") | runs("figure4")
    assert runs("peaks") <= figures
    assert len(runs("baselines-n1") & figures) == 3


@pytest.mark.parametrize("figure", ["figure1", "figure4"])
@pytest.mark.parametrize(
    ("level", "setting", "there", "here"),
    [("edge", "learning_rate", 4e-4, 2e-4), ("any-norm", "gradient_clip", float("inf"), 1.0)],
)
def test_a_level_changes_one_setting_and_nothing_else(
    level: str, setting: str, there: float, here: float, figure: str
) -> None:
    varied, plain = (STUDIES[name](Numerics.FP8) for name in (f"{figure}-{level}", figure))
    assert varied.claims == plain.claims
    for changed_one, condition in zip(varied.conditions, plain.conditions, strict=True):
        assert changed_one.name == condition.name
        dumped, expected = (c.config.model_dump() for c in (changed_one, condition))
        assert dumped["optimizer"].pop(setting) == there
        assert expected["optimizer"].pop(setting) == here
        assert dumped == expected


def test_more_experts_are_all_that_differs_from_the_edge() -> None:
    there, edge = (STUDIES[name](Numerics.FP8) for name in ("figure4-experts", "figure4-edge"))
    assert there.name == "figure4-fp8-edge-experts"
    assert there.claims == edge.claims
    for condition, plain in zip(there.conditions, edge.conditions, strict=True):
        dumped, expected = (c.config.model_dump() for c in (condition, plain))
        assert dumped["model"].pop("experts") == 32
        assert expected["model"].pop("experts") == 8
        assert dumped == expected


def test_figure5_goes_on_for_twice_as_long() -> None:
    runs = [condition.config for condition in STUDIES["figure5"](Numerics.FP8).conditions]
    assert {run.steps * 2 for run in runs} == {2 * GRADIENT_STEPS}


def test_more_seeds_are_the_next_ones() -> None:
    assert study_of([]).with_seeds(5).seeds == (0, 1, 2, 3, 4)
    assert STUDIES["learning-rate"](Numerics.FP8).with_seeds(4).seeds == (100, 101, 102, 103)


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (greater("seconds", "A", "B"), r"claims something about \{'seconds'\}, unmeasured. Add it"),
        (greater("kept", "A", "C"), r"about \{'C'\}, which it has not. Its conditions are A, B"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_refused(comparison: Comparison, message: str) -> None:
    with pytest.raises(UserError, match=message):
        study_of([Claim(text="", source="", comparisons=(comparison,))])


def test_steps_that_do_not_fit_into_a_bin_are_refused() -> None:
    three = PolicyGradientSettings(prompts=3, group_size=4, mini_batches=3)
    config = changed(tiny_run(), algorithm=three.model_dump())
    with pytest.raises(UserError, match=r"takes 3 gradient steps a rollout\. Courses are kept in"):
        replace(study_of([]), conditions=(Condition(name="A", config=config),))
