"""The test that decides a claim."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from steadyrl.lab.claims import (
    Claim,
    Comparison,
    Interval,
    PValues,
    Relation,
    Verdict,
    collapses,
    discoveries,
    greater,
    is_stable,
    is_unstable,
    less,
    not_greater,
    p_values,
    similar,
)

HOLDS, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED


def between(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, count=3)


def test_the_interval_of_three_differences_by_hand() -> None:
    # Mean 0.2; deviations -0.1, 0, 0.1, so s = 0.1; t(0.975, 2) = 4.3027; half = 4.3027 * 0.1 / √3.
    interval = Interval.of(np.array([0.1, 0.2, 0.3]))
    assert interval.mean == pytest.approx(0.2)
    assert interval.high - interval.mean == pytest.approx(0.24841, abs=1e-5)
    assert interval.count == 3


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_the_interval_is_that_of_the_t_test(values: list[float]) -> None:
    data = np.array(values)
    interval = Interval.of(data)
    if data.std() < 1e-9:
        assert interval.low == pytest.approx(interval.high, abs=1e-7)
        return
    expected = stats.ttest_1samp(data, 0.0).confidence_interval(0.95)
    assert interval.low == pytest.approx(expected.low, abs=1e-9)
    assert interval.high == pytest.approx(expected.high, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_values_decide_nothing(count: int) -> None:
    interval = Interval.of(np.full(count, 0.7))
    for make in (greater, less, not_greater, similar):
        assert make("best_score", "A", "B").verdict(interval) is UNDECIDED


@pytest.mark.parametrize(
    ("relation", "low", "high", "expected"),
    [
        (Relation.GREATER, 0.01, 0.05, HOLDS),
        (Relation.GREATER, 0.001, 0.01, HOLDS),  # small, but proven
        (Relation.GREATER, -0.01, 0.05, UNDECIDED),
        (Relation.GREATER, -0.01, 0.019, FAILS),
        (Relation.GREATER, -0.5, -0.1, FAILS),
        (Relation.LESS, -0.05, -0.01, HOLDS),
        (Relation.LESS, -0.05, 0.01, UNDECIDED),
        (Relation.LESS, -0.019, 0.01, FAILS),
        (Relation.LESS, 0.1, 0.5, FAILS),
        (Relation.NOT_GREATER, -0.5, -0.1, HOLDS),
        (Relation.NOT_GREATER, -0.01, 0.019, HOLDS),
        (Relation.NOT_GREATER, -0.01, 0.05, UNDECIDED),
        (Relation.NOT_GREATER, 0.01, 0.05, FAILS),
        (Relation.SIMILAR, -0.019, 0.019, HOLDS),
        (Relation.SIMILAR, -0.019, 0.03, UNDECIDED),
        (Relation.SIMILAR, 0.01, 0.03, UNDECIDED),
        (Relation.SIMILAR, 0.021, 0.03, FAILS),
        (Relation.SIMILAR, -0.9, -0.021, FAILS),
    ],
)
def test_what_an_interval_says(
    relation: Relation, low: float, high: float, expected: Verdict
) -> None:
    comparison = Comparison(
        measure="best_score", first="A", relation=relation, second="B", margin=0.02
    )
    assert comparison.verdict(between(low, high)) is expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((HOLDS, HOLDS), HOLDS),
        ((HOLDS, UNDECIDED), UNDECIDED),
        ((UNDECIDED, FAILS), FAILS),
        ((HOLDS, FAILS), FAILS),
    ],
)
def test_a_claim_stands_or_falls_with_all_of_its_parts(
    parts: tuple[Verdict, ...], expected: Verdict
) -> None:
    claim = Claim(text="", source="", comparisons=(greater("kept", "A", "B"),) * 2)
    assert claim.verdict(parts) is expected


def test_a_claim_is_out_of_reach_unless_its_premise_holds() -> None:
    claim = Claim(
        text="",
        source="",
        premise=(collapses("B"),),
        comparisons=(greater("kept", "A", "B"),),
    )
    assert claim.verdict((FAILS,), (HOLDS,)) is FAILS
    for premise in (FAILS, UNDECIDED):
        assert claim.verdict((HOLDS,), (premise,)) is Verdict.OUT_OF_REACH


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.sampled_from(Relation))
def test_an_interval_decides_where_a_p_value_is_below_a_fortieth(
    values: list[float], relation: Relation
) -> None:
    data = np.array(values)
    assume(data.std() > 1e-6)
    interval = Interval.of(data)
    comparison = Comparison(
        measure="best_score", first="A", relation=relation, second="B", margin=0.02
    )
    p = comparison.p_values(interval)
    expected = HOLDS if p.holds < 0.025 else FAILS if p.fails < 0.025 else UNDECIDED
    assert comparison.verdict(interval) is expected
    assert interval.p_above(0.1) == pytest.approx(
        stats.ttest_1samp(data, 0.1, alternative="greater").pvalue, abs=1e-9
    )


def test_a_claim_of_several_parts_needs_all_to_hold_and_one_to_fail() -> None:
    parts = [PValues(holds=0.01, fails=0.9), PValues(holds=0.2, fails=0.02)]
    assert p_values(parts) == PValues(holds=0.2, fails=0.04)


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    # Two-sided 0.002, 0.02, 0.04, 0.06, against 0.05 i / 4: the third is 0.04 > 0.0375.
    claims = [PValues(holds=p, fails=0.9) for p in (0.001, 0.01, 0.02)]
    claims.append(PValues(holds=0.9, fails=0.03))
    assert discoveries(claims) == [HOLDS, HOLDS, UNDECIDED, UNDECIDED]
    assert discoveries([PValues(holds=0.9, fails=0.001)]) == [FAILS]
    assert discoveries([]) == []


def test_a_level_is_no_condition() -> None:
    assert greater("kept", "A", 0.9).conditions == ("A",)
    assert greater("kept", "A", "B").conditions == ("A", "B")


@pytest.mark.parametrize(
    ("kept", "stable", "unstable", "collapsed"),
    [
        ((0.92, 0.99), HOLDS, FAILS, FAILS),
        ((0.70, 0.80), FAILS, HOLDS, FAILS),
        ((0.10, 0.40), FAILS, HOLDS, HOLDS),
        ((0.30, 0.97), UNDECIDED, UNDECIDED, UNDECIDED),
    ],
)
def test_stable_is_above_nine_tenths_and_collapsed_below_half(
    kept: tuple[float, float], stable: Verdict, unstable: Verdict, collapsed: Verdict
) -> None:
    expected = {is_stable: stable, is_unstable: unstable, collapses: collapsed}
    for part, verdict in expected.items():
        comparison = part("A")
        assert isinstance(comparison.second, float)
        low, high = (share - comparison.second for share in kept)
        assert comparison.verdict(between(low, high)) is verdict
