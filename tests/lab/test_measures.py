"""What a run came to, on runs small enough for paper."""

from dataclasses import replace

import numpy as np
import pytest

from steadyrl.lab.claims import SMALLEST_DIFFERENCE
from steadyrl.lab.measures import (
    COMPARED,
    MEASURES,
    best_reward,
    best_score,
    final_entropy,
    final_reward,
    final_score,
    first_score,
    kept,
    log10_gradient_norm,
    log10_mismatch,
    mean_reward,
    mean_score,
    retry_lift,
    retry_reward,
    score_in_equal_time,
)
from tests.lab.made_up import record

RISE_AND_FALL = [0.1] * 8 + [0.6, 0.8] + [0.4] * 8 + [0.2, 0.4]
"""20 bins, so a tenth is two of them."""


def test_rewards_are_means_over_a_tenth() -> None:
    run = record(RISE_AND_FALL)
    assert best_reward(run) == pytest.approx(0.7)  # (0.6 + 0.8) / 2
    assert final_reward(run) == pytest.approx(0.3)  # (0.2 + 0.4) / 2
    assert kept(run) == pytest.approx(3 / 7)


def test_a_run_that_failed_counts_as_zero_from_there_on() -> None:
    run = record(RISE_AND_FALL[:12], failure="not finite")
    assert best_reward(run) == pytest.approx(0.7)
    assert final_reward(run) == 0
    assert kept(run) == 0
    assert final_score(run) == 0
    assert best_score(run) == 0.5


def test_a_run_that_never_earned_kept_nothing() -> None:
    assert kept(record([0.0] * 20)) == 0


def test_scores_are_first_best_and_last() -> None:
    run = record([0.5] * 20, scores=[(0, 0.2), (80, 0.9), (160, 0.4)])
    assert (first_score(run), best_score(run), final_score(run)) == (0.2, 0.9, 0.4)


def test_mismatch_is_averaged_in_decades() -> None:
    run = record([0.5] * 2)
    run.curves["mismatch_kl_k3"][:] = [1e-2, 1e-4]
    assert log10_mismatch(run) == pytest.approx(-3)


def test_the_gradient_s_norm_is_the_median_of_those_that_are_not_zero() -> None:
    run = record([0.5] * 4)
    run.curves["gradient_norm"][:] = [0.0, 10.0, 100.0, 1000.0]
    assert log10_gradient_norm(run) == pytest.approx(2)
    run.curves["gradient_norm"][:] = [0.0] * 4
    assert np.isnan(log10_gradient_norm(run))


def test_the_mean_reward_counts_a_failed_run_to_its_end() -> None:
    assert mean_reward(record([0.2] * 10 + [0.6] * 10)) == pytest.approx(0.4)
    assert mean_reward(record([0.8] * 10, failure="not finite")) == pytest.approx(0.4)


def test_the_mean_score_is_that_of_the_course() -> None:
    # Trapezoids: (0.2 + 0.6) / 2 over 40 of 160 steps, then (0.6 + 0.8) / 2 over 120.
    run = record([0.5] * 20, scores=[(0, 0.2), (40, 0.6), (160, 0.8)])
    assert mean_score(run) == pytest.approx(0.4 * 0.25 + 0.7 * 0.75)


def test_a_run_that_failed_ends_with_a_score_and_an_entropy_of_zero() -> None:
    scores = [(0, 0.2), (80, 0.6)]
    run = record([0.5] * 12, scores=scores, failure="not finite")
    # (0.2 + 0.6) / 2 for one half of 160 steps, then (0.6 + 0) / 2 for the other.
    assert mean_score(run) == pytest.approx(0.4 * 0.5 + 0.3 * 0.5)
    assert final_entropy(run) == 0
    assert mean_score(record([0.5], scores=[(0, 0.4)], failure="not finite")) == pytest.approx(0.2)


def test_scores_are_compared_over_the_time_of_the_sooner_run() -> None:
    # The slow run takes 4 seconds. After 2, when the other one is through, it has 0.4; over these
    # 2 seconds it goes from 0.2 to 0.4, the other one from 0.2 to 1.
    slow = replace(record([0.5] * 20, scores=[(0, 0.2), (160, 0.6)]), seconds=4.0)
    fast = replace(record([0.5] * 20, scores=[(0, 0.2), (160, 1.0)]), seconds=2.0)
    assert score_in_equal_time(fast, slow) == pytest.approx(0.6 - 0.3)
    assert score_in_equal_time(slow, fast) == pytest.approx(0.3 - 0.6)


def test_equal_time_follows_the_course_of_the_seconds() -> None:
    # Two bins of one run: the first takes 3 of 4 seconds, at whose end the score is 0.5.
    uneven = replace(record([0.5] * 2, gradient_steps=16), seconds=4.0)
    uneven.scores[:] = [(0, 0.1), (8, 0.5), (16, 0.5)]
    uneven.curves["seconds"] = [3.0 / 8, 1.0 / 8]
    still = replace(record([0.5] * 2, gradient_steps=16), seconds=4.0)
    still.scores[:] = [(0, 0.1), (16, 0.1)]
    # (0 + 0.4) / 2 over three quarters of the time, 0.4 over the last.
    assert score_in_equal_time(uneven, still) == pytest.approx(0.2 * 0.75 + 0.4 * 0.25)


def test_second_attempts_are_measured_in_the_first_tenth() -> None:
    run = record([0.1, 0.3] + [0.9] * 18)
    run.curves["reward_reflected"] = [0.5, None, *[1.0] * 18]
    assert retry_reward(run) == pytest.approx(0.5)  # the second bin had none
    assert retry_lift(run) == pytest.approx(0.3)  # first attempts earned (0.1 + 0.3) / 2


def test_a_run_without_second_attempts_has_no_measure_of_them() -> None:
    assert np.isnan(retry_reward(record([0.5] * 20)))


def test_every_measure_has_a_smallest_difference_that_matters() -> None:
    assert MEASURES.keys() | COMPARED.keys() == SMALLEST_DIFFERENCE.keys()
    assert not MEASURES.keys() & COMPARED.keys()
