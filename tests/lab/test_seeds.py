"""Runs that are compared began with one cold start."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.lab import seeds
from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.configurations import identity
from steadyrl.lab.records import write_record
from steadyrl.lab.running import StudyPaths, cold_start
from steadyrl.lab.seeds import on_comparable_seeds, run_on_comparable_seeds
from steadyrl.lab.study import Study, changed
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from tests.lab.made_up import record, study_of

HERE, ELSEWHERE = "this machine", "another machine"
RESULTS = Path(__file__).parents[2] / "results"
PUBLISHED = [
    study
    for make in STUDIES.values()
    for study in map(make, Numerics)
    if (RESULTS / study.name / "results.json").exists()
]


@pytest.fixture
def study() -> Study:
    return study_of([])


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(records=tmp_path / "runs", folders=tmp_path / "work")


def keep(paths: StudyPaths, study: Study, seed: int, *runs: tuple[str, str | None]) -> None:
    """A record for each of the first conditions, of this machine and with this cold start."""
    for condition, (machine, start) in zip(study.conditions, runs, strict=False):
        config = condition.run(seed)
        run = replace(
            record([0.5] * 20, seed=seed, config=config), machine=machine, cold_start=start
        )
        write_record(run, paths.new_record(config))


def test_seeds_that_two_machines_would_share_are_passed_over(
    study: Study, paths: StudyPaths
) -> None:
    keep(paths, study, 0, (ELSEWHERE, None), (ELSEWHERE, None))
    keep(paths, study, 1, (ELSEWHERE, None))
    keep(paths, study, 2, (HERE, None))
    keep(paths, study, 3, (ELSEWHERE, None), (HERE, None))
    assert on_comparable_seeds(study, paths, HERE).seeds == (0, 2, 4)
    assert on_comparable_seeds(study, paths, ELSEWHERE).seeds == (0, 1, 4)
    assert on_comparable_seeds(study, paths, "a third").seeds == (0, 4, 5)


def test_seeds_with_two_cold_starts_are_passed_over_on_one_machine_too(
    study: Study, paths: StudyPaths
) -> None:
    keep(paths, study, 0, (HERE, "a"), (HERE, "a"))
    keep(paths, study, 1, (HERE, "a"), (HERE, "b"))
    keep(paths, study, 2, (HERE, "a"), (HERE, None))
    assert on_comparable_seeds(study, paths, HERE).seeds == (0, 2, 3)


def test_conditions_may_begin_with_cold_starts_of_their_own(
    study: Study, paths: StudyPaths
) -> None:
    first, second = study.conditions
    other = changed(second.config, model=SmallMoE(layers=2).model_dump())
    study = replace(study, conditions=(first, replace(second, config=other)))
    keep(paths, study, 0, (HERE, "a"), (HERE, "b"))
    assert on_comparable_seeds(study, paths, HERE).seeds == (0, 1, 2)


def test_a_seed_that_turns_out_to_have_two_cold_starts_is_replaced(
    study: Study, paths: StudyPaths
) -> None:
    keep(paths, study, 1, (HERE, "a"))
    asked: list[tuple[int, ...]] = []

    def run(studies: Sequence[Study], *, goes_on: Callable[[], bool]) -> None:
        assert goes_on()
        asked.append(studies[0].seeds)
        keep(paths, study, 1, (HERE, "a"), (HERE, "b"))

    (finished,) = run_on_comparable_seeds([study], paths, HERE, run)
    assert asked == [(0, 1, 2), (0, 2, 3)]
    assert finished.seeds == (0, 2, 3)


def test_a_seed_is_replaced_before_its_runs_if_its_cold_start_is_another_than_on_record(
    study: Study, paths: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(paths, study, 0, (HERE, "a"))
    made: set[int] = set()
    ran: list[tuple[int, ...]] = []

    def run(studies: Sequence[Study], *, goes_on: Callable[[], bool]) -> None:
        made.update(studies[0].seeds)
        if goes_on():
            ran.append(studies[0].seeds)

    monkeypatch.setattr(seeds, "cold_started", lambda run, _: "b" if run.seed in made else None)
    run_on_comparable_seeds([study], paths, HERE, run)
    assert ran == [(1, 2, 3)]


@pytest.mark.parametrize("study", PUBLISHED, ids=[study.name for study in PUBLISHED])
def test_published_runs_of_a_seed_and_cold_start_began_with_one_score(study: Study) -> None:
    conditions = json.loads((RESULTS / study.name / "results.json").read_text())["conditions"]
    beginnings: dict[tuple[int, str], set[float]] = {}
    for condition in study.conditions:
        for run in conditions[condition.name]:
            start = identity(cold_start(condition.run(run["seed"])))
            beginnings.setdefault((run["seed"], start), set()).add(run["first_score"])
    assert beginnings
    assert all(len(scores) == 1 for scores in beginnings.values())


@pytest.mark.parametrize("study", PUBLISHED, ids=[study.name for study in PUBLISHED])
def test_published_claims_are_those_of_the_study(study: Study) -> None:
    published = json.loads((RESULTS / study.name / "results.json").read_text())["claims"]
    assert [(claim["claim"], claim["source"]) for claim in published] == [
        (claim.text, claim.source) for claim in study.claims
    ]
