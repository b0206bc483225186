"""Studies of doses: what is run next, and what becomes of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.lab.catalog import DOSE_STUDIES
from steadyrl.lab.configurations import identity
from steadyrl.lab.dose import CONTROLS, RUNS, Dial, DoseStudy, Event
from steadyrl.lab.dose_results import write_dose_results
from steadyrl.lab.dose_running import run_doses
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.records import RunRecord, read_record, write_record
from steadyrl.lab.running import StudyPaths, cold_start
from steadyrl.lab.study import changed
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig
from steadyrl.run.manifest import machine
from tests.lab.made_up import record
from tests.run.tiny import tiny_run

Runs = dict[str, dict[int, RunRecord]]
WHOLE = DOSE_STUDIES["dose"](Numerics.FLOAT32)
EVERY_DIAL = pytest.mark.parametrize("dial", WHOLE.dials, ids=[dial.name for dial in WHOLE.dials])


def scored(final: float, *, seed: int = 0, best: float = 0.8) -> RunRecord:
    return record([0.5] * 8, seed=seed, scores=[(0, 0.3), (32, best), (64, final)])


@EVERY_DIAL
def test_conditions_differ_and_share_a_cold_start_and_gradient_steps(dial: Dial) -> None:
    configs = [condition.config for condition in dial.conditions()]

    assert len({identity(config) for config in configs}) == len(configs)
    assert len(configs) == 1 + len(dial.remedies) * len(dial.doses)
    assert len({config.steps * config.algorithm.gradient_steps for config in configs}) == 1
    assert len({identity(cold_start(changed(c, seed=n))) for n, c in enumerate(configs)}) == 1
    assert list(dial.doses) == sorted(dial.doses)


@EVERY_DIAL
def test_a_remedy_differs_from_none_in_nothing_else(dial: Dial) -> None:
    configs = {condition.name: condition.config for condition in dial.conditions()}
    none, *remedies = dial.remedies
    for dose in dial.doses:
        plain = configs[dial.at(none, dose)].model_dump()
        for remedy in remedies:
            treated = configs[dial.at(remedy, dose)].model_dump()
            for values in (plain, treated):
                values["algorithm"].pop("objective", None)
                values.pop("routing_replay", None)
            assert treated == plain


def test_an_event_is_read_off_the_held_out_scores() -> None:
    assert not Event.LOSES.shown_by(scored(0.76), 0.8)
    assert Event.LOSES.shown_by(scored(0.75), 0.8)
    assert not Event.COLLAPSES.shown_by(scored(0.41), 0.8)
    assert Event.COLLAPSES.shown_by(scored(0.39), 0.8)


def followed(study: DoseStudy, final: Callable[[str, float], float]) -> Runs:
    """The runs of `study` until its design ends, where a run ends with `final(remedy, dose)`."""
    (dial,) = study.dials
    runs: Runs = {condition.name: {} for condition in study.conditions}
    runs[dial.control_name] = {seed: scored(0.8, seed=seed) for seed in study.controls}
    places = {
        identity(changed(condition.config, seed=0)): condition.name
        for condition in study.conditions
    }
    for remedy in dial.remedies:
        while (config := study.next_run(dial, remedy, runs)) is not None:
            name = places[identity(changed(config, seed=0))]
            dose = float(name.rpartition(", ")[2])
            runs[name][config.seed] = scored(final(remedy, dose), seed=config.seed)
    return runs


@pytest.fixture(scope="module")
def routing() -> tuple[DoseStudy, Runs]:
    """No replay and R2 lose 0.05 from 0.5 on and collapse from 1.5 on; R3 loses nothing."""
    study = DOSE_STUDIES["dose-routing-noise"](Numerics.FLOAT32)

    def final(remedy: str, dose: float) -> float:
        return 0.8 if remedy == "R3" else 0.3 if dose > 1.5 else 0.7 if dose > 0.5 else 0.79

    return study, followed(study, final)


def test_the_design_finds_both_borders_with_a_seed_for_each_run(
    routing: tuple[DoseStudy, Runs], tmp_path: Path
) -> None:
    study, runs = routing
    (dial,) = study.dials
    findings = write_dose_results(study, runs, tmp_path)
    found = {(f.remedy, f.event): f for f in findings}

    for remedy in dial.remedies:
        taken = study.taken(dial, remedy, runs)
        assert [run.seed for _, run in taken] == list(range(len(taken)))
        assert len(taken) <= RUNS
    assert study.is_finished(runs)
    assert found["no replay", Event.LOSES].border.dose == pytest.approx(0.6, rel=0.25)
    assert found["no replay", Event.COLLAPSES].border.dose == pytest.approx(1.7, rel=0.25)
    assert found["R2", Event.LOSES].effect == "undecided"
    for event in Event:
        assert found["R3", event].border.low == float("inf")
        assert found["R3", event].effect == "works"


def test_runs_of_other_studies_at_other_doses_change_no_border(
    routing: tuple[DoseStudy, Runs],
) -> None:
    study, runs = routing
    (dial,) = study.dials
    more = {name: dict(of_condition) for name, of_condition in runs.items()}
    for seed in range(3):
        more[dial.at("no replay", 0.354)].setdefault(seed, scored(0.1, seed=seed))
        more[dial.at("no replay", 2.83)].setdefault(seed, scored(0.8, seed=seed))
    assert sum(map(len, more.values())) > sum(map(len, runs.values())) + 3
    assert study.is_finished(more)
    for event in Event:
        before, after = (study.outcomes(dial, "no replay", event, each) for each in (runs, more))
        assert before == after


def test_results_tell_borders_effects_and_what_was_measured(
    routing: tuple[DoseStudy, Runs], tmp_path: Path
) -> None:
    study, runs = routing
    write_dose_results(study, runs, tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())
    page = (tmp_path / "README.md").read_text()

    row = next(r for r in content["borders"] if (r["remedy"], r["event"]) == ("R3", "loses"))
    assert row["border"] == {"dose": "inf", "low": "inf", "high": "inf"}
    assert row["effect"] == "works"
    assert row["shown"] == 0
    assert content["mismatch"]["routing noise"][0]["k3"] == 1e-3
    assert all(content["conditions"].values())
    assert "| above 4 | more than " in page
    assert f"{CONTROLS} runs at dose 0 end with a score of 0.800" in page
    assert "<svg" in (tmp_path / "figure.svg").read_text()


def test_the_quick_form_is_one_dial_and_two_remedies() -> None:
    quick = WHOLE.quick()

    assert quick.name == "dose-float32-quick"
    assert quick.title == "Borders of routing noise, rollouts in float32, quick form"
    assert [list(dial.remedies) for dial in quick.dials] == [["no replay", "R3"]]
    assert len(quick.seeds) == 8


def test_runs_of_another_machine_are_not_continued(tmp_path: Path) -> None:
    study = DOSE_STUDIES["dose-routing-noise"](Numerics.FLOAT32)
    paths = StudyPaths(records=tmp_path, folders=tmp_path / "never-made")
    config = study.conditions[0].run(0)
    run = record([0.5] * 8, config=config)
    write_record(run, paths.new_record(config))

    with pytest.raises(UserError, match=r"has runs from another machine \(a machine\)"):
        run_doses(study, paths, "this one", processes=1, watch=lambda _: None)


def tiny_dial() -> Dial:
    def turn(config: RunConfig, dose: float) -> RunConfig:
        return changed(config, optimizer=config.optimizer.model_dump() | {"learning_rate": dose})

    remedies = {"none": {"routing_replay": "none"}, "R3": {"routing_replay": "r3"}}
    config = tiny_run()
    assert config.cold_start is not None
    shared = config.cold_start.model_dump() | {"seed": 0}
    return Dial(
        name="rate",
        axis="learning rate",
        doses=(0.02, 0.2),
        remedies=remedies,
        control=changed(config, cold_start=shared, routing_replay="none"),
        turn=turn,
    )


@pytest.mark.slow
def test_a_study_of_doses_runs_by_its_design_with_any_number_of_processes(tmp_path: Path) -> None:
    dial = tiny_dial()
    study = replace(WHOLE, dials=(dial,), conditions=tuple(dial.conditions()), seeds=(0, 1))
    chosen = []
    for processes in (1, 2):
        paths = StudyPaths(records=tmp_path / f"{processes}", folders=tmp_path / f"work{processes}")
        run_doses(study, paths, "this one", processes=processes, watch=lambda _: None)
        records = [read_record(path) for path in sorted(paths.records.glob("*.json"))]
        chosen.append([(run.digest, MEASURES["final_score"](run)) for run in records])

    assert len(chosen[0]) == 2 + 2 * 2
    assert chosen[0] == chosen[1]

    next(iter(paths.records.glob("*.json"))).unlink()
    elsewhere = StudyPaths(records=paths.records, folders=tmp_path / "no-run-folders")
    run_doses(study, elsewhere, machine(), processes=1, watch=lambda _: None)

    records = [read_record(path) for path in sorted(paths.records.glob("*.json"))]
    assert [(run.digest, MEASURES["final_score"](run)) for run in records] == chosen[1]

    first, second, *_ = sorted(paths.records.glob("*.json"))
    first.unlink()
    second.write_text(json.dumps(json.loads(second.read_text()) | {"cold_start": "0" * 16}))
    with pytest.raises(UserError, match="from a cold start of other weights"):
        run_doses(study, elsewhere, machine(), processes=1, watch=lambda _: None)
