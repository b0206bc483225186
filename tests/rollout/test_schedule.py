"""The schedule: staleness is bounded by pacing, and every unit is consumed once."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.rollout.schedule import Schedule


def test_units_start_ahead_as_far_as_the_bound_allows() -> None:
    schedule = Schedule(per_step=2, max_staleness=1)

    assert schedule.start() == [0, 1, 2, 3]
    assert schedule.start() == []
    schedule.finish(1)
    assert schedule.ready is None  # in the order of the plan: it waits for unit 0
    schedule.finish(0)
    assert schedule.ready == (0, 1)
    assert schedule.take() == ((0, 1), ())
    assert schedule.start() == []  # the engine still has the old weights
    schedule.publish()
    assert schedule.start() == [4, 5]


def test_without_staleness_each_step_samples_with_the_weights_before_it() -> None:
    schedule = Schedule(per_step=2, max_staleness=0, units=4)
    for step in range(2):
        units = schedule.start()
        assert units == [2 * step, 2 * step + 1]
        for unit in units:
            schedule.finish(unit)
        assert schedule.take() == (tuple(units), ())
        assert schedule.start() == []
        schedule.publish()
    assert schedule.start() == []  # the plan is over


def test_late_units_are_replaced_and_dropped_once_they_are_finished() -> None:
    schedule = Schedule(per_step=2, max_staleness=1, drops=True)
    schedule.start()
    for unit in (1, 2):
        schedule.finish(unit)
    assert schedule.take() == ((1, 2), ())  # 0 and 3 may still be consumed by the next step
    schedule.publish()
    assert schedule.start() == [4, 5]
    for unit in (4, 5):
        schedule.finish(unit)
    assert schedule.take() == ((4, 5), ())  # now 0 and 3 would be two versions old
    assert schedule.dropped == 2
    assert schedule.start() == [6, 7]
    assert not schedule.finish(0)
    schedule.publish()
    assert schedule.start() == [8, 9]


@given(
    per_step=st.integers(1, 4),
    max_staleness=st.integers(0, 4),
    drops=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_units_are_consumed_once_and_never_staler_than_the_bound(
    per_step: int, max_staleness: int, drops: bool, seed: int
) -> None:
    """Units finish in any order, and the run is saved and resumed in between."""
    steps, draw = 8, random.Random(seed)
    settings = {"per_step": per_step, "max_staleness": max_staleness, "drops": drops}
    schedule = Schedule(**settings, units=steps * per_step)
    running: set[int] = set()
    started: dict[int, int] = {}
    consumed: list[int] = []
    while schedule.step < steps:
        for unit in schedule.start():
            started[unit] = schedule.version
            running.add(unit)
        if schedule.ready is None or (running and draw.random() < 0.5):
            unit = draw.choice(sorted(running))
            running.remove(unit)
            schedule.finish(unit)
            continue
        step = schedule.step
        units, expired = schedule.take()
        assert len(units) == per_step
        assert all(step - started[unit] <= max_staleness for unit in units)
        assert drops or (units == tuple(range(step * per_step, (step + 1) * per_step)))
        assert drops or not expired
        consumed += units
        schedule.publish()
        if draw.random() < 0.2:
            state = json.loads(json.dumps(schedule.state()))
            schedule = Schedule(**settings, units=steps * per_step)
            running = set(schedule.restore(state))
            started |= dict.fromkeys(running, schedule.version)
    assert len(consumed) == len(set(consumed)) == steps * per_step
    assert schedule.cursor == len(consumed) + schedule.dropped + len(schedule.waiting)


def test_a_step_that_is_not_ready_consumes_nothing() -> None:
    schedule = Schedule(per_step=2, max_staleness=0)
    schedule.start()
    with pytest.raises(AssertionError, match="not finished"):
        schedule.take()
