from itertools import count

import pytest
import torch
from benchmarks.performance.timing import Sample, interleaved, rate_ratio, spread, time_ratio, timed


def sample(seconds: float, tokens: int = 1) -> Sample:
    return Sample(seconds=seconds, processor_seconds=2 * seconds, tokens=tokens)


def test_who_is_first_changes_from_round_to_round_and_warmups_do_not_count() -> None:
    turns: list[str] = []
    numbers = count()

    def competitor(name: str) -> Sample:
        turns.append(name)
        return sample(float(next(numbers)))

    samples = interleaved(
        {"a": lambda: competitor("a"), "b": lambda: competitor("b")}, rounds=2, warmups=1
    )

    # Round -1 (a warm-up) is reversed, round 0 is not, round 1 is.
    assert turns == ["b", "a", "a", "b", "b", "a"]
    assert [taken.seconds for taken in samples["a"]] == [2.0, 5.0]
    assert [taken.seconds for taken in samples["b"]] == [3.0, 4.0]


def test_ratios_are_taken_round_by_round() -> None:
    # The machine is half as fast in the second round; the ratio of medians would be 3 / 1.5.
    ours, peers = [sample(2.0), sample(4.0)], [sample(1.0), sample(2.0)]

    assert time_ratio(ours, peers).median == 2.0
    assert time_ratio(ours, peers).low == 2.0
    assert time_ratio(ours, peers, clock="processor_seconds").high == 2.0


def test_rates_count_the_tokens_that_each_produced() -> None:
    ours, peers = [sample(2.0, tokens=300)], [sample(4.0, tokens=200)]

    # 150 tokens per second against 50.
    assert rate_ratio(ours, peers).median == pytest.approx(3.0)


def test_a_spread_is_the_median_between_its_quartiles() -> None:
    # Of 1, 2, 3, 4, 10 the quartiles are the second and the fourth.
    found = spread([10.0, 1.0, 4.0, 2.0, 3.0])

    assert (found.low, found.median, found.high, found.rounds) == (2.0, 3.0, 4.0, 5)


def test_one_round_has_no_spread() -> None:
    found = spread([1.5])

    assert (found.low, found.median, found.high, found.rounds) == (1.5, 1.5, 1.5, 1)


def test_work_is_timed_by_wall_and_processor_and_says_its_tokens() -> None:
    taken = timed(lambda: sum(range(1000)), torch.device("cpu"))

    assert taken.tokens == 499_500
    assert taken.seconds > 0
