"""The recipe of arXiv:2512.01374 and what a run measures, as one choice."""

from typing import Any

import pytest

from steadyrl.policies.replay_choice import LARGEST_R2_STALENESS, choose_replay
from steadyrl.records.routing import RoutingReplay

NONE, R2, R3 = RoutingReplay.NONE, RoutingReplay.R2, RoutingReplay.R3


def steps(count: int, disagreement: float = 0.02, staleness: float = 0.001) -> list[dict[str, Any]]:
    """An evaluation before the first step, then `count` steps."""
    step = {"routing_disagreement": disagreement, "staleness_kl_k3": staleness}
    return [{"score": 0.1}, *({"step": number + 1, **step} for number in range(count))]


@pytest.mark.parametrize(
    ("mini_batches", "expected"), [(1, NONE), (2, R2), (3, R2), (4, R3), (8, R3)]
)
def test_after_the_first_step_it_is_the_papers_recipe(
    mini_batches: int, expected: RoutingReplay
) -> None:
    assert choose_replay(mini_batches, steps(1)).mode is expected
    assert choose_replay(mini_batches, steps(30)).mode is expected


@pytest.mark.parametrize(
    ("mini_batches", "ahead", "expected"),
    [(1, 1, NONE), (1, 9, NONE), (2, 1, R3), (3, 1, R3), (4, 1, R3), (2, 3, R3)],
)
def test_updates_by_which_rollouts_are_older_count_too(
    mini_batches: int, ahead: int, expected: RoutingReplay
) -> None:
    choice = choose_replay(mini_batches, steps(1), max_staleness=ahead)
    assert choice.mode is expected
    earlier = f"sampled up to {mini_batches * ahead} earlier"
    assert (earlier in choice.reason) is (expected is R3)


@pytest.mark.parametrize("mini_batches", [2, 4, 8])
def test_the_first_step_measures_under_r2(mini_batches: int) -> None:
    for history in ([], steps(0)):
        choice = choose_replay(mini_batches, history)
        assert choice.mode is R2
        assert "the first step measures how far engine and trainer disagree" in choice.reason


@pytest.mark.parametrize("mini_batches", [2, 8])
def test_an_engine_that_agrees_needs_no_r3(mini_batches: int) -> None:
    agreeing = steps(20, disagreement=5e-5, staleness=1.0)
    choice = choose_replay(mini_batches, agreeing)
    assert choice.mode is R2
    assert "disagreed in 0.01% of router decisions at most" in choice.reason
    assert choose_replay(mini_batches, steps(20, disagreement=2e-4, staleness=1.0)).mode is R3


def test_disagreement_once_seen_counts_after_r3_hides_it() -> None:
    agreeing, seen = steps(5, disagreement=0.0), steps(1, disagreement=0.02)[1:]
    assert choose_replay(8, agreeing).mode is R2
    assert choose_replay(8, [*agreeing, *seen, *steps(9, disagreement=0.0)[1:]]).mode is R3


def test_staleness_as_of_a_larger_n_leads_to_r3_for_good() -> None:
    calm, stale = steps(20), steps(10, staleness=2 * LARGEST_R2_STALENESS)[1:]
    assert choose_replay(2, calm).mode is R2
    choice = choose_replay(2, [*calm, *stale])
    assert choice.mode is R3
    assert choice.reason.startswith("staleness reached 0.020 nats a token")
    assert choose_replay(2, [*calm, *stale, *steps(50)[1:]]).mode is R3


def test_staleness_decides_nothing_before_it_was_averaged() -> None:
    stale = steps(12, staleness=2 * LARGEST_R2_STALENESS)
    modes = [choose_replay(2, stale[: 1 + count]).mode for count in range(1, 13)]
    assert modes == [R2] * 9 + [R3] * 3


def test_once_r3_a_run_stays_there_as_it_grows() -> None:
    levels = [0.015, 0.004, 0.003, 0.003, 0.02, 0.02, 0.002, *[0.03] * 10, *[0.0] * 10]
    history = [row for level in levels for row in steps(1, staleness=level)[1:]]
    modes = [choose_replay(2, history[:count]).mode for count in range(1, len(history) + 1)]
    assert modes == sorted(modes, key=[R2, R3].index)
    assert modes[-1] is R3


def test_a_single_stale_step_is_no_reason() -> None:
    # A mean over ten steps of 0.001 but one of 0.05 is 0.0059, below 0.01.
    history = [*steps(20), *steps(1, staleness=0.05)[1:], *steps(20)[1:]]
    assert choose_replay(2, history).mode is R2
