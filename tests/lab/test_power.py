"""Power: how many seeds a test takes."""

import numpy as np
import pytest
from scipy.stats import t as student

from steadyrl.lab.power import in_words, seeds_needed, seeds_of_claim, seeds_of_comparison


@pytest.mark.parametrize(
    ("deviation", "count"),
    [
        (1.0, 10),  # tables of the one-sided t-test at 0.025: an effect of one deviation
        (2.0, 34),  # half a deviation
        (0.0, 2),
    ],
)
def test_numbers_are_those_of_tables(deviation: float, count: int) -> None:
    assert seeds_needed(deviation, 1.0) == count


def test_the_number_of_seeds_has_the_power_in_simulation() -> None:
    count = seeds_needed(0.05, 0.03)
    assert count is not None
    draws = np.random.default_rng(0).normal(0.03, 0.05, size=(20_000, count))
    error = draws.std(axis=1, ddof=1) / count**0.5
    found = (draws.mean(axis=1) / error > student.isf(0.025, count - 1)).mean()
    assert 0.79 < found < 0.84


def test_a_spread_that_no_number_of_seeds_overcomes() -> None:
    assert seeds_needed(1.0, 0.02) is None


def comparison(half: float, *, relation: str = "greater", seeds: int = 5) -> dict[str, object]:
    return {
        "interval": [0.1 - half, 0.1 + half],
        "seeds": seeds,
        "margin": 0.05,
        "relation": relation,
    }


def test_a_claim_needs_the_seeds_of_its_hardest_part() -> None:
    # A half width of t(4) / sqrt(5) deviations: a deviation of 0.05, an effect of one.
    half = 0.05 * float(student.isf(0.025, 4)) / 5**0.5
    easy, hard = comparison(half), comparison(2 * half)

    assert seeds_of_comparison(easy) == 10
    assert seeds_of_claim({"comparisons": [easy, hard]}) == 34
    assert in_words({"comparisons": [easy, hard]}) == "34"
    alike = seeds_of_comparison(comparison(half, relation="similar"))
    assert alike is not None
    assert alike > 10
    assert in_words({"comparisons": [easy, {**easy, "interval": None}]}) == "not known"
    assert in_words({"comparisons": [comparison(1.0)]}) == "more than 1000"
