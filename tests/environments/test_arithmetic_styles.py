import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.arithmetic_styles import Statement, Style, read, restatement, write

CHAIN = (3, 14, -2, 9)
RESULTS = (17, 15, 24)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (Style.RESULTS, "17,15,24"),
        (Style.EQUATIONS, "3+14=17;17-2=15;15+9=24"),
        (Style.RUNNING, "3 17 15 24"),
    ],
)
def test_each_style_is_written_as_documented(style: Style, text: str):
    assert write(style, CHAIN, RESULTS) == text


@given(
    style=st.sampled_from(Style),
    first=st.integers(0, 999),
    steps=st.lists(
        st.tuples(st.integers(-999, 999).filter(bool), st.integers(0, 10**6)), min_size=1
    ),
)
def test_what_is_written_is_read_back(style: Style, first: int, steps: list[tuple[int, int]]):
    chain = (first, *[operand for operand, _ in steps])
    results = tuple(result for _, result in steps)
    assert read(write(style, chain, results)) == Statement(
        style=style, restated=restatement(style, chain, results), results=results
    )


def test_surrounding_whitespace_is_forgiven():
    assert read(" \n17,15,24\t\n") == read("17,15,24")
    assert read("17,15,24") is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seventeen",
        "17, 15",
        "17,,15",
        ",17",
        "17,",
        "017,15",
        "-1,15",
        "17.0",
        "17;15",
        "3  17",
        "3\n17",
        "3+14=17;",
        "3+14=17,17-2=15",
        "3+14=17; 17-2=15",
        "3 + 14 = 17",
        "3+14==17",
        "3*14=42",
        "3+14",
        "3+14=17 17-2=15",
        "17,15 24",
        "17,15,24 done",
        "17,15,24\n17,15,24",
        "\u0661\u0667,\u0661\u0665",  # Arabic-Indic digits
        "9" * 5000,  # longer than int() accepts
    ],
)
def test_malformed_text_is_not_read(text: str):
    assert read(text) is None
