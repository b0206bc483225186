from collections import Counter
from math import sqrt

from steadyrl.environments.grid_draws import Draws


def test_draws_of_a_place_are_the_same_in_every_process():
    # Pinned: other draws here mean that every reader's runs would see other boards.
    draws = Draws(1, 2, 3)
    assert [draws.below(100) for _ in range(5)] == [76, 47, 73, 60, 96]
    assert Draws(1, 2, 4).below(2**63) != Draws(1, 2, 3).below(2**63)


def test_draws_go_on_beyond_one_block_without_repeating():
    draws = Draws(0)
    assert len({draws.below(2**63) for _ in range(500)}) == 500


def test_all_numbers_below_a_bound_are_equally_likely():
    draws, total = Draws(7), 20_000
    counts = Counter(draws.below(5) for _ in range(total))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(count / total - 0.2) < 4 * sqrt(0.16 / total) for count in counts.values())


def test_numbers_between_bounds_fill_the_interval_evenly():
    draws, total = Draws(8), 20_000
    values = [draws.between(0.6, 0.85) for _ in range(total)]
    assert all(0.6 <= value < 0.85 for value in values)
    # The mean of a uniform variable has the standard deviation width / sqrt(12 n).
    assert abs(sum(values) / total - 0.725) < 4 * 0.25 / sqrt(12 * total)


def test_distinct_draws_are_ordered_samples_without_repetition():
    draws, total = Draws(9), 12_000
    counts = Counter(draws.distinct(2, 3) for _ in range(total))
    assert set(counts) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert all(abs(n / total - 1 / 6) < 4 * sqrt(5 / 36 / total) for n in counts.values())


def test_chances_are_true_at_their_rate():
    draws, total = Draws(10), 20_000
    hits = sum(draws.chances(0.7, total))
    assert abs(hits / total - 0.7) < 4 * sqrt(0.21 / total)
    assert draws.chances(0.0, 50) == [False] * 50
    assert draws.chances(1.0, 50) == [True] * 50
