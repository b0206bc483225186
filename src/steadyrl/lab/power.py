"""Power of a claim's test: how many seeds it takes, from the spread that is measured.

A comparison is tested by Student's t on differences within seeds, one-sided at 0.025. Its power is
the probability that it comes out as it should when the true difference is the smallest one that
matters; for a claim of likeness, when there is none. The spread of the differences is taken to be
the measured one, which few seeds estimate badly: the numbers are orders of magnitude.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import nct
from scipy.stats import t as student

from steadyrl.lab.claims import Relation

POWER = 0.8
LEVEL = 0.025
MOST = 1000
"""More seeds than this are counted as out of reach."""


def seeds_needed(deviation: float, effect: float, *, power: float = POWER) -> int | None:
    """The number of seeds at which a difference of `effect` is found with this probability.

    Args:
        deviation: Standard deviation of the differences within seeds.

    Returns:
        At least 2; None if it is more than `MOST`.
    """
    if deviation == 0:
        return 2
    counts = np.arange(2, MOST + 1)
    critical = student.isf(LEVEL, counts - 1)
    reached = nct.sf(critical, counts - 1, effect / deviation * np.sqrt(counts)) >= power
    return int(counts[reached.argmax()]) if reached.any() else None


def seeds_of_comparison(comparison: Mapping[str, Any]) -> int | None:
    """The seeds that a comparison of results.json needs; None if unknown or too many."""
    if comparison.get("interval") is None:
        return None
    low, high = comparison["interval"]
    count = comparison["seeds"]
    error = (high - low) / 2 / float(student.isf(LEVEL, count - 1))
    # Both of its ends have to lie within the margin.
    both = comparison["relation"] == Relation.SIMILAR
    power = (1 + POWER) / 2 if both else POWER
    return seeds_needed(error * math.sqrt(count), comparison["margin"], power=power)


def seeds_of_claim(claim: Mapping[str, Any]) -> int | None:
    """The seeds that a claim of results.json needs: those of its part that needs most."""
    needed = [seeds_of_comparison(comparison) for comparison in claim["comparisons"]]
    known = [each for each in needed if each is not None]
    return max(known) if len(known) == len(needed) else None


def is_known(claim: Mapping[str, Any]) -> bool:
    """Whether every part was run on two seeds or more, so that its spread is known."""
    return all(comparison.get("interval") is not None for comparison in claim["comparisons"])


def in_words(claim: Mapping[str, Any]) -> str:
    """The seeds that a claim of results.json needs, for people."""
    if not is_known(claim):
        return "not known"
    needed = seeds_of_claim(claim)
    return f"more than {MOST}" if needed is None else str(needed)
