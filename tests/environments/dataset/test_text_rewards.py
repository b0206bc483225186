"""Rewards that compare texts."""

from typing import Any

import pytest
from pydantic import ValidationError

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.rewards import RewardSettings
from steadyrl.environments.dataset.text_rewards import ExactReward, LengthReward, RegexReward
from tests.environments.dataset.attempts import attempt, marks_of, value_of


def value(settings: RewardSettings, text: str, answer: str = "2") -> float:
    reward = settings.make(AnswerFormat.WHOLE)
    return value_of(reward.judge([attempt(text, answer=answer)]))


@pytest.mark.parametrize(
    ("text", "answer", "compare", "expected"),
    [
        ("2", "2", "text", 1),
        (" New \n York ", "New York", "text", 1),
        ("cafe\u0301", "caf\u00e9", "text", 1),
        ("new york", "New York", "text", 0),
        ("2 or 3", "2", "text", 0),
        ("The new-york!", "a New-York", "words", 1),
        ("York New", "New York", "words", 0),
        ("", "2", "text", 0),
    ],
)
def test_exact_answers_are_the_same_text(
    text: str, answer: str, compare: Any, expected: float
) -> None:
    assert value(ExactReward(compare=compare), text, answer) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"^\d+$", "22", 1),
        (r"^\d+$", "22a", 0),
        (r"####\s*(?P<answer>.*)", "1+1 is two\n#### 2", 1),
        (r"####\s*(?P<answer>.*)", "#### 3", 0),
        (r"####\s*(?P<answer>\d)?", "#### ", 0),
    ],
)
def test_a_pattern_is_found_and_its_group_is_right(
    pattern: str, text: str, expected: float
) -> None:
    settings = RegexReward(pattern=pattern)
    assert value(settings, text) == expected
    assert settings.reads_answer is ("answer" in pattern)


def test_a_pattern_may_be_about_the_thoughts_too() -> None:
    thought = attempt("<think>x</think>2")
    whole = RegexReward(pattern="^<think>.*</think>", part="response")
    assert value_of(whole.make(AnswerFormat.WHOLE).judge([thought])) == 1


def test_a_search_without_end_is_given_up() -> None:
    settings = RegexReward(pattern=r"(\w*)*(\w*)*(\w*)*[!?]$", timeout=0.05)
    (mark,) = marks_of(settings.make(AnswerFormat.WHOLE).judge([attempt("ab" * 1500 + ".")]))
    assert (mark.value, mark.reason) == (0, "the search took longer than 0.05 s")


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        (LengthReward(max_length=2), "one two", 1),
        (LengthReward(max_length=2), "one two three", 0),
        (LengthReward(min_length=2), "one", 0),
        (LengthReward(min_length=2, max_length=2), "  one\n two ", 1),
        (LengthReward(max_length=3, unit="characters"), "abc", 1),
        (LengthReward(max_length=3, unit="characters"), "abcd", 0),
        (LengthReward(min_length=1), "", 0),
    ],
)
def test_length_is_between_its_bounds(settings: LengthReward, text: str, expected: float) -> None:
    assert value(settings, text) == expected


def test_a_reason_never_tells_the_right_answer() -> None:
    for settings in (
        ExactReward(),
        RegexReward(pattern="(?P<answer>.*)"),
        LengthReward(max_length=1),
    ):
        (mark,) = marks_of(
            settings.make(AnswerFormat.WHOLE).judge([attempt("some words", answer="secret")])
        )
        assert mark.value == 0
        assert "secret" not in mark.reason


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (RegexReward, {"pattern": "("}, "is not a regular expression"),
        (RegexReward, {"pattern": ""}, "pattern"),
        (
            LengthReward,
            {"min_length": 3, "max_length": 2},
            "max_length is 2, less than min_length, which is 3",
        ),
        (ExactReward, {"weight": float("nan")}, "weight"),
        (ExactReward, {"label": "a/b"}, "label"),
    ],
)
def test_impossible_settings_are_refused(
    kind: type[RewardSettings], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**wrong)
