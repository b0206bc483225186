"""Each signal leaves its range where trouble shows, and keeps to it in a run that learns."""

import numpy as np
import pytest
from tests.analysis.diagnosed_runs import SOUND, sound, stage

from steadyrl.analysis.departures import (
    departures,
    departures_now,
    opening,
    recent,
    reward_noise,
    window,
)
from steadyrl.analysis.run_settings import RunSettings

ON_POLICY = RunSettings()


def test_a_run_that_learns_departs_from_nothing() -> None:
    assert departures(sound(), ON_POLICY) == []


def test_a_median_covers_a_tenth_of_the_steps_so_far_and_three_at_least() -> None:
    assert [window(steps) for steps in (1, 30, 39, 40, 400)] == [3, 3, 3, 4, 40]
    medians = recent(stage(ess=[9.0, 1.0, 2.0, 3.0]), "ess")
    assert medians is not None
    assert (medians.steps.tolist(), medians.values.tolist()) == ([3, 4], [2.0, 2.0])


def test_a_metric_recorded_twice_has_no_median_but_an_opening() -> None:
    short = stage(ess=[0.8, 0.6])

    assert recent(short, "ess") is None
    assert opening(short, "ess") == pytest.approx(0.7)


def test_values_that_are_not_numbers_are_left_out() -> None:
    assert opening(stage(ess=[np.nan, 0.9, np.nan]), "ess") == 0.9
    assert opening(stage(ess=[np.nan]), "ess") is None


@pytest.mark.parametrize(
    ("metric", "values", "step", "limit"),
    [
        # Medians of three: 0.002, 0.002, 0.03, 0.04. Ten times the opening is 0.02.
        ("mismatch_kl_k3", [0.002, 0.002, 0.002, 0.03, 0.03, 0.04], 5, 0.02),
        ("gradient_norm", [5.0, 5.0, 5.0, 60.0, 70.0, 80.0], 5, 50.0),
        ("extreme_token_fraction", [0.0, 0.0, 0.0, 0.2, 0.3, 0.3], 5, 0.1),
        ("ess", [1.0, 1.0, 0.9, 0.4, 0.3, 0.3], 5, 0.5),
    ],
)
def test_trouble_is_a_departure(metric: str, values: list[float], step: int, limit: float) -> None:
    (found,) = departures(stage(**{metric: values}), ON_POLICY)

    assert (found.metric, found.step, found.limit) == (metric, step, pytest.approx(limit))
    assert found.lasting


@pytest.mark.parametrize(("later", "departs"), [(0.5, False), (0.7, True)])
def test_extreme_tokens_that_were_there_from_the_start_must_double(
    later: float, departs: bool
) -> None:
    found = departures(stage(extreme_token_fraction=[0.3] * 3 + [later] * 3), ON_POLICY)

    assert bool(found) is departs


def test_a_signal_outside_at_the_last_step_is_seen_without_the_course() -> None:
    few, many = [1, 1, 1, 0.3, 0.3, 0.3], [1, 1, 1, 0.3, 0.3, 0.3, 1, 1, 1]
    (found,) = departures_now(stage(ess=few), ON_POLICY)

    assert (found.metric, found.step, found.value) == ("ess", 6, 0.3)
    assert departures_now(stage(ess=many), ON_POLICY) == []


def test_one_outlier_is_no_departure() -> None:
    assert departures(sound(ess=[1, 1, 1, 0.01, 1, 1, 1, 1]), ON_POLICY) == []


def test_what_came_back_is_kept_as_such_with_the_step_it_first_left_at() -> None:
    (found,) = departures(stage(ess=[1, 1, 1, 0.3, 0.3, 0.3, 1, 1, 1]), ON_POLICY)

    assert (found.step, found.lasting) == (5, False)


def test_what_left_twice_counts_from_when_it_stayed_away() -> None:
    values = [1, 1, 1, 0.3, 0.3, 1, 1, 1, 0.3, 0.3, 0.3]
    (found,) = departures(stage(ess=values), ON_POLICY)

    assert (found.step, found.lasting) == (10, True)


@pytest.mark.parametrize(
    ("mini_batches", "staleness", "departs"),
    [
        # The limit is 0.05 (N - 1)(2N - 1) / 6: 0.025 for N = 2, 0.875 for N = 8.
        (2, 0.024, False),
        (2, 0.026, True),
        (8, 0.87, False),
        (8, 0.88, True),
    ],
)
def test_staleness_is_held_against_its_number_of_updates(
    mini_batches: int, staleness: float, departs: bool
) -> None:
    found = departures(
        stage(staleness_kl_k3=[staleness] * 3), RunSettings(mini_batches=mini_batches)
    )

    assert bool(found) is departs


def test_a_lost_reward_is_a_collapse_from_the_step_it_stays_below_half_of_the_best() -> None:
    rewards = [0.30, 0.32, 0.31, 0.33, 0.30, 0.02, 0.01, 0.0, 0.0, 0.01, 0.0, 0.01, 0.0, 0.0]
    (found,) = departures(stage(reward=rewards), ON_POLICY)

    # Best mean of three: (0.32 + 0.31 + 0.33) / 3. Means of three: 0.217 to step 6, 0.11 to step 7.
    assert (found.metric, found.step) == ("reward", 7)
    assert found.limit == pytest.approx(0.16)


def test_a_reward_that_fell_at_the_first_update_has_one_step_at_its_best() -> None:
    rewards = [0.26, 0.03, 0.02, 0.01, *[0.0] * 8]
    (found,) = departures(stage(reward=rewards), ON_POLICY)

    assert (found.metric, found.limit) == ("reward", pytest.approx(0.13))


@pytest.mark.parametrize(
    "rewards",
    [
        pytest.param([0.8, 0.9, 0.8, 0.85, 0.6, 0.55, 0.6, 0.6], id="less than half lost"),
        pytest.param([0.04, 0.0, 0.02, 0.0, 0.03, 0.0, 0.0, 0.0], id="within the noise"),
        pytest.param([-0.2, -0.3, -0.2, -0.9, -0.9, -0.9, -0.9], id="no positive best"),
        pytest.param([0.9, 0.0, 0.0, 0.0, 0.0], id="too few steps"),
    ],
)
def test_other_rewards_are_no_collapse(rewards: list[float]) -> None:
    assert departures(stage(reward=rewards), ON_POLICY) == []


def test_noise_of_the_reward_does_not_count_its_course() -> None:
    # Differences 1, 1, 1: a standard deviation of sqrt(1 / 2), though the values span 3.
    assert reward_noise(np.array([0.0, 1.0, 2.0, 3.0])) == pytest.approx(0.5**0.5)


def test_entropy_that_halves_as_the_reward_falls_is_a_departure() -> None:
    entropy = [0.4, 0.4, 0.4, 0.3, 0.18, 0.15, 0.1, 0.1]
    falling = [0.30, 0.31, 0.30, 0.25, 0.22, 0.19, 0.18, 0.17]
    found = departures(stage(entropy=entropy, reward=falling), ON_POLICY)

    assert [departure.metric for departure in found] == ["entropy"]
    assert departures(stage(entropy=entropy, reward=SOUND["reward"]), ON_POLICY) == []


def test_entropy_that_doubles_as_the_reward_falls_is_a_departure() -> None:
    entropy = [0.4, 0.4, 0.4, 0.5, 0.9, 1.0, 1.1, 1.2]
    falling = [0.30, 0.31, 0.30, 0.25, 0.22, 0.19, 0.18, 0.17]
    (found,) = departures(stage(entropy=entropy, reward=falling), ON_POLICY)

    assert (found.metric, found.limit) == ("entropy", pytest.approx(0.8))


def test_departures_come_in_the_order_of_their_steps() -> None:
    found = departures(
        stage(ess=[1, 1, 1, 1, 0.3, 0.3, 0.3], gradient_norm=[1, 1, 1, 20, 20, 20, 20]), ON_POLICY
    )

    assert [departure.metric for departure in found] == ["gradient_norm", "ess"]
