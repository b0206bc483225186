import math

import pytest

from steadyrl.base.wording import count, duration, inside_sentence, short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.58123, "0.581"),
        (-0.25, "\N{MINUS SIGN}0.25"),
        (1234.5, "1230"),
        (9999.0, "10k"),
        (12345.0, "12.3k"),
        (3.4e-5, "3.4e\N{MINUS SIGN}5"),
        (1e-6, "1e\N{MINUS SIGN}6"),
        (2.5e6, "2.5M"),
        (math.inf, "∞"),
        (-math.inf, "\N{MINUS SIGN}∞"),
        (math.nan, "not a number"),
    ],
)
def test_a_number_is_said_in_three_digits(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9.5, "9.5 s"),
        (61.0, "1 min 1 s"),
        (3599.6, "1 h 0 min"),
        (4320.0, "1 h 12 min"),
        (200_000.0, "2 days 7 h"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_of_a_thing_is_singular() -> None:
    assert (count(1, "step"), count(2, "step"), count(1200, "step")) == (
        "1 step",
        "2 steps",
        "1,200 steps",
    )


def test_a_title_inside_a_sentence_keeps_its_abbreviations() -> None:
    assert inside_sentence("Mismatch KL (k3)") == "mismatch KL (k3)"
