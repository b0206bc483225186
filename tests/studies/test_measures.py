"""What a run came to, on runs small enough for paper."""

import numpy as np
import pytest

from steadyrl.studies.claims import SMALLEST_DIFFERENCE
from steadyrl.studies.measures import (
    MEASURES,
    best_reward,
    best_score,
    final_reward,
    final_score,
    first_score,
    kept,
    log10_mismatch,
    mean_score,
    retry_lift,
    retry_reward,
)
from tests.studies.made_up import record

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


def test_the_mean_score_is_that_of_the_course() -> None:
    # Trapezoids: (0.2 + 0.6) / 2 over 40 of 160 steps, then (0.6 + 0.8) / 2 over 120.
    run = record([0.5] * 20, scores=[(0, 0.2), (40, 0.6), (160, 0.8)])
    assert mean_score(run) == pytest.approx(0.4 * 0.25 + 0.7 * 0.75)


def test_second_attempts_are_measured_in_the_first_tenth() -> None:
    run = record([0.1, 0.3] + [0.9] * 18)
    run.curves["reward_reflected"] = [0.5, None, *[1.0] * 18]
    assert retry_reward(run) == pytest.approx(0.5)  # the second bin had none
    assert retry_lift(run) == pytest.approx(0.3)  # first attempts earned (0.1 + 0.3) / 2


def test_a_run_without_second_attempts_has_no_measure_of_them() -> None:
    assert np.isnan(retry_reward(record([0.5] * 20)))


def test_every_measure_has_a_smallest_difference_that_matters() -> None:
    assert MEASURES.keys() == SMALLEST_DIFFERENCE.keys()
