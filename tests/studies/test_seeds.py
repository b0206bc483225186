"""Runs that are compared began with one cold start."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.policies.numerics import Numerics
from steadyrl.studies import STUDIES
from steadyrl.studies.records import digest_of, write_record
from steadyrl.studies.running import Workplace, cold_start
from steadyrl.studies.seeds import on_one_machine_a_seed
from steadyrl.studies.study import Study
from tests.studies.made_up import record, study_of

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
def workplace(study: Study, tmp_path: Path) -> Workplace:
    """Seed 0 was finished elsewhere, 1 half of it, 2 half of it here, 3 at both places."""
    place = Workplace(records=tmp_path / "runs", folders=tmp_path / "work")
    first, second = study.conditions
    for condition, seed, machine in (
        (first, 0, ELSEWHERE),
        (second, 0, ELSEWHERE),
        (first, 1, ELSEWHERE),
        (second, 2, HERE),
        (first, 3, ELSEWHERE),
        (second, 3, HERE),
    ):
        run = replace(record([0.5] * 20, seed=seed), machine=machine)
        write_record(run, place.record(condition.run(seed)))
    return place


def test_seeds_that_two_machines_would_share_are_passed_over(
    study: Study, workplace: Workplace
) -> None:
    assert on_one_machine_a_seed(study, workplace, HERE).seeds == (0, 2, 4)
    assert on_one_machine_a_seed(study, workplace, ELSEWHERE).seeds == (0, 1, 4)
    assert on_one_machine_a_seed(study, workplace, "a third").seeds == (0, 4, 5)


def test_a_study_that_was_never_run_keeps_its_seeds(study: Study, tmp_path: Path) -> None:
    nowhere = Workplace(records=tmp_path, folders=tmp_path)
    assert on_one_machine_a_seed(study, nowhere, HERE) == study


@pytest.mark.parametrize("study", PUBLISHED, ids=[study.name for study in PUBLISHED])
def test_published_runs_of_a_seed_and_cold_start_began_with_one_score(study: Study) -> None:
    conditions = json.loads((RESULTS / study.name / "results.json").read_text())["conditions"]
    beginnings: dict[str, set[float]] = {}
    for condition in study.conditions:
        for run in conditions[condition.name]:
            start = digest_of(cold_start(condition.run(run["seed"])))
            beginnings.setdefault(start, set()).add(run["first_score"])
    assert beginnings
    assert all(len(scores) == 1 for scores in beginnings.values())
