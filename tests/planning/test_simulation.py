"""Simulations against schedules that are worked out by hand."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from steadyrl.cli.simulate import recommended, simulate_command
from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.simulated_cluster import Disturbances, MeasuredDecoding, SimulatedCluster
from steadyrl.planning.simulation import SimulatedRun, simulate

SECOND = SimulatedCluster(
    cost=MeasuredDecoding(token_seconds=0.1),
    engines=1,
    slots=10,
    groups=1,
    group=1,
    prompt=0,
    lengths=ResponseLengths(mean=10.0, maximum=10, spread=0.0),
    train_seconds=1.0,
    sync_seconds=0.0,
)
"""A rollout of one second and an update of one second."""

LONG_TAIL = replace(
    SECOND,
    engines=4,
    slots=16,
    groups=16,
    group=4,
    lengths=ResponseLengths(mean=100.0, maximum=1000, spread=1.5),
)


def test_without_staleness_rollout_update_and_sync_follow_each_other() -> None:
    run = simulate(replace(SECOND, sync_seconds=0.5), max_staleness=0)

    assert run.step_seconds == pytest.approx(2.5)
    assert run.staleness == 0


def test_with_bound_one_a_rollout_hides_behind_an_update_of_equal_length() -> None:
    run = simulate(SECOND, max_staleness=1)

    assert run.step_seconds == pytest.approx(1.0)
    assert run.learner_idle == pytest.approx(0.0)
    assert run.staleness == pytest.approx(1.0)


def test_a_learner_that_is_faster_waits_for_rollouts() -> None:
    run = simulate(replace(SECOND, train_seconds=0.25), max_staleness=1)

    assert run.learner_idle > 0.4


def test_a_sync_stops_the_engines() -> None:
    quick = replace(SECOND, train_seconds=0.0, sync_seconds=0.5)
    steps = [simulate(quick, max_staleness=bound).step_seconds for bound in (0, 1)]

    assert steps[0] == pytest.approx(1.5)
    assert 0.5 < steps[1] <= 1.5


def test_a_shared_processor_is_slower_only_while_both_compute() -> None:
    # One second of rollout and 0.5 of update. At half the speed both, the update ends after one
    # second, in which half of the next rollout is sampled; the other half takes 0.5 alone.
    shared = replace(SECOND, slots=1, train_seconds=0.5, speed_together=0.5)
    run = simulate(shared, max_staleness=1, steps=40)

    assert run.step_seconds == pytest.approx(1.5)  # as one after the other
    assert run.learner_idle == pytest.approx(1 / 3)
    apart = simulate(replace(shared, speed_together=1.0), max_staleness=1, steps=40)
    assert apart.step_seconds == pytest.approx(1.0)
    in_turns = simulate(shared, max_staleness=0, steps=40)
    assert in_turns.step_seconds == pytest.approx(1.5)  # nothing computes at the same time


def test_sharing_memory_costs_what_overlaps() -> None:
    # 0.8 times the speed: the update of 0.5 takes 0.625, in which 0.5 of a rollout is sampled.
    shared = replace(SECOND, slots=1, train_seconds=0.5, speed_together=0.8)
    run = simulate(shared, max_staleness=1, steps=40)

    assert run.step_seconds == pytest.approx(0.625 + 0.5)


def test_sequences_wait_for_a_slot() -> None:
    narrow = replace(SECOND, groups=2, slots=1, train_seconds=0.0)

    assert simulate(narrow, max_staleness=0).step_seconds == pytest.approx(2.0)


def test_no_bound_is_exceeded_and_none_is_slower_than_a_smaller_one() -> None:
    runs = [simulate(LONG_TAIL, max_staleness=bound) for bound in (0, 1, 2, 4)]
    seconds = [run.step_seconds for run in runs]

    assert seconds == sorted(seconds, reverse=True)
    assert all(run.staleness <= bound for run, bound in zip(runs, (0, 1, 2, 4), strict=True))


def test_failures_and_slow_engines_cost_time_and_lose_no_group() -> None:
    calm = simulate(LONG_TAIL, max_staleness=1)
    failing = replace(
        LONG_TAIL,
        disturbances=Disturbances(hours_between_failures=0.02, restart_seconds=10.0),
    )
    slow = replace(LONG_TAIL, disturbances=Disturbances(slow_share=0.5, slowdown=2.0))

    assert simulate(failing, max_staleness=1).failures > 0
    assert simulate(failing, max_staleness=1).step_seconds > calm.step_seconds
    assert simulate(slow, max_staleness=0).step_seconds > 1.2 * calm.step_seconds


def test_a_seed_gives_the_same_run_again() -> None:
    assert simulate(LONG_TAIL, max_staleness=1, seed=3) == simulate(
        LONG_TAIL, max_staleness=1, seed=3
    )


def test_the_smallest_bound_that_is_nearly_the_fastest_is_recommended() -> None:
    runs = {
        ("few engines", 1): SimulatedRun(
            step_seconds=100.0, learner_idle=0.0, staleness=1.0, failures=0
        ),
        ("few engines", 4): SimulatedRun(
            step_seconds=98.0, learner_idle=0.0, staleness=4.0, failures=0
        ),
        ("few engines", 0): SimulatedRun(
            step_seconds=200.0, learner_idle=0.5, staleness=0.0, failures=0
        ),
    }

    assert recommended(runs) == ("few engines", 1)


def test_the_command_prints_a_row_for_each_division_and_bound() -> None:
    output = io.StringIO()
    arguments = ["demo", "--gpus", "4xH100", "--response-tokens", "12", "--steps", "4", "--json"]
    simulate_command([*arguments, "--bounds", "0", "1"], Console(file=output))
    rows = json.loads(output.getvalue())

    assert {row["max_staleness"] for row in rows} == {0, 1}
    assert len(rows) == 2 * len({row["layout"] for row in rows})
