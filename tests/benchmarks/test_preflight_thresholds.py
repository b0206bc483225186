"""Counting of hurt places, on curves small enough for paper."""

from typing import Any

import preflight_thresholds as thresholds
from preflight_thresholds import Interval, Place, intervals_of, limits_of, places_of

from steadyrl.lab.records import RunRecord


def record(rewards: list[float], k3: list[float]) -> RunRecord:
    values: dict[str, Any] = {
        "digest": "a",
        "seed": 0,
        "commit": None,
        "machine": "",
        "seconds": 1.0,
        "gradient_steps": 8 * len(rewards),
        "failure": None,
        "scores": [],
        "curves": {"reward": rewards, "mismatch_kl_k3": k3},
        "configuration": {},
        "changes": 0,
    }
    return RunRecord(**values)


def test_a_place_is_hurt_if_the_reward_is_lost_within_ten_bins() -> None:
    rewards = [0.5] * 12 + [0.0] * 12
    places = list(places_of(record(rewards, [1e-3] * 24), "mismatch_kl_k3"))

    # Means over bins 1-3 to 9-11 are 0.5 and have one before them: nine sound places. The means
    # after them are 0.33, 0.17 and 0, and 0.17 is within ten bins of the first place.
    assert len(places) == 9
    assert all(place.hurt for place in places)


def test_steady_runs_are_not_hurt_and_the_end_is_left_out() -> None:
    places = list(places_of(record([0.5] * 20, [1e-3] * 20), "mismatch_kl_k3"))

    # Of 18 means, the first has none before it, and the last five have fewer than five ahead.
    assert len(places) == 12
    assert not any(place.hurt for place in places)


def test_intervals_of_few_runs_are_joined() -> None:
    places = [Place(run=str(n), value=1.5e-3, hurt=False) for n in range(3)]
    places += [Place(run=str(n), value=3e-3, hurt=n == 0) for n in range(3)]
    places += [Place(run="9", value=0.3, hurt=True)]

    found = intervals_of(places, least_runs=3)

    assert [(each.low, each.high, each.hurt) for each in found] == [
        (0.0, 2e-3, 0),
        (2e-3, float("inf"), 2),
    ]


def interval(low: float, high: float, hurt: int) -> Interval:
    return Interval(low=low, high=high, places=1000, runs=50, hurt=hurt)


def test_limits_are_where_shares_pass_one_in_200_and_one_in_20() -> None:
    rising = [interval(0, 1, 0), interval(1, 2, 5), interval(2, 5, 20), interval(5, 10, 60)]

    assert limits_of(rising) == (2, 5)
    assert limits_of(rising[:3]) == (2, None)
    assert limits_of([interval(0, 1, 30)]) == (None, None)
    assert thresholds.SAFE_SHARE * 1000 == 5
