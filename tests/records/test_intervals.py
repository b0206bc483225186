"""Intervals of scores hold the true score as often as they say."""

import numpy as np
import pytest

from steadyrl.records.intervals import Interval, mean_interval, score_interval


def test_the_interval_of_a_mean_is_a_worked_example() -> None:
    # Gains 1/2, 1/2, 0, 0: mean 1/4, standard deviation sqrt(1/12), of the mean sqrt(1/48).
    interval = mean_interval([0.5, 0.5, 0.0, 0.0])
    assert interval is not None
    assert interval.low == pytest.approx(0.25 - 1.96 / 48**0.5)
    assert interval.high == pytest.approx(0.25 + 1.96 / 48**0.5)


def test_one_answer_a_task_has_the_interval_of_wilson() -> None:
    # p = 1/4, s^2 = p (1 - p) / 11, so n = 11 answers. With z^2 = 3.8416: the center is
    # (0.25 + 0.17462) / 1.34924 = 0.31471, and half of it
    # 1.96 / 1.34924 * sqrt(0.017045 + 0.007937) = 0.22961.
    interval = score_interval([1.0] * 3 + [0.0] * 9)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.0851, 0.5443), abs=1e-4)


@pytest.mark.parametrize(("score", "low", "high"), [(0.0, 0.0, 0.0741), (1.0, 0.9259, 1.0)])
def test_a_score_of_none_or_all_is_not_certain(score: float, low: float, high: float) -> None:
    # z^2 / (n + z^2) with n = 48 tasks.
    interval = score_interval([score] * 48)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


def test_one_task_has_no_interval_and_other_rewards_have_the_normal_one() -> None:
    assert score_interval([0.5]) is None
    assert mean_interval([]) is None
    assert score_interval([-1.0, 2.0, 0.5]) == mean_interval([-1.0, 2.0, 0.5])


def test_the_true_score_is_inside_19_times_in_20_though_answers_to_a_task_are_alike() -> None:
    generator, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        tasks = generator.beta(0.3, 0.7, size=48)  # mean 0.3, and most tasks all right or all wrong
        scores = generator.binomial(4, tasks) / 4
        interval = score_interval(scores.tolist())
        assert isinstance(interval, Interval)
        inside += interval.low <= 0.3 <= interval.high
    # The standard error of a share of 0.95 among 2,000 is 0.005.
    assert 0.93 < inside / 2000 < 0.97
