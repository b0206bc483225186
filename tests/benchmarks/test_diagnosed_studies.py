"""A run is diagnosed along its course by what it had recorded until then."""

from benchmarks.diagnosed_studies import LOOKS, Outcome, course, outcome_of, table, until

from steadyrl.analysis.diagnosis import Status
from steadyrl.analysis.run_settings import RunSettings
from tests.analysis.diagnosed_runs import sound, stage

REWARDS = [0.30, 0.32, 0.31, 0.33, 0.30, 0.02, 0.01, 0.0, 0.0, 0.01, 0.0, 0.01, 0.0, 0.0]


def outcome(kept: float, alarm: int | None, **changes: object) -> Outcome:
    values = {"run": "r", "study": "s", "condition": "c", "seed": 0, "steps": 9, "alarmed": 0.0}
    values |= {"fallen": None, "status": Status.HEALTHY, "cause": None}
    return Outcome(kept=kept, alarm=alarm, **(values | changes))


def test_a_stage_is_cut_after_a_step() -> None:
    cut = until(sound(), 3)
    assert cut.last_step == 3
    assert all(list(series.steps) == [1, 2, 3] for series in cut.metrics.values())


def test_a_long_run_is_looked_at_evenly_and_at_its_end() -> None:
    diagnoses = course(stage(reward=[0.5] * (2 * LOOKS + 1)), RunSettings())
    steps = [diagnosis.steps for diagnosis in diagnoses]
    assert steps == list(range(3, 2 * LOOKS + 2, 3))


def test_what_the_diagnoses_of_a_collapse_came_to() -> None:
    diagnoses = course(stage(reward=REWARDS), RunSettings())
    found = outcome_of("r", "s", "c", 0, 0.0, diagnoses)
    assert found.alarm == found.fallen
    assert found.alarm is not None
    assert 6 <= found.alarm < 14
    assert found.status is Status.COLLAPSED
    assert found.alarmed == round((14 - found.alarm + 1) / 14, 4)
    healthy = outcome_of("r", "s", "c", 0, 1.0, course(sound(), RunSettings()))
    assert (healthy.alarm, healthy.alarmed, healthy.status) == (None, 0.0, Status.HEALTHY)


def test_the_table_counts_by_fate() -> None:
    fallen = {"fallen": 5, "status": Status.COLLAPSED, "cause": "updates too large"}
    lines = table([outcome(0.95, None), outcome(0.9, 4), outcome(0.0, 3, **fallen)])
    assert lines[2:] == [
        "| kept 0.9 or more | 2 | 1 | 0 | 0 |  |",
        "| kept 0.5 to 0.9 | 0 | 0 | 0 | 0 |  |",
        "| kept less than 0.5 | 1 | 1 | 1 | 1 | updates too large 1 |",
    ]
