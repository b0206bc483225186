"""Which letter a response names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.choice_reward import ChoiceReward, read_choice
from steadyrl.environments.dataset.examples import InvalidRowError
from tests.environments.dataset.attempts import attempt, example, value_of

LETTERS = "ABCD"


@pytest.mark.parametrize(
    "text",
    [
        "B",
        " b\n",
        "(B)",
        "(b)",
        "B.",
        "B) Paris",
        "**B**",
        r"\boxed{B}",
        r"\boxed{\text{B}}",
        "$B$",
        "Answer: B",
        "answer: b",
        "Answer:(b) Paris",
        "Answer = 'B'",
        "The answer is B",
        "The answer is option B.",
        "The correct answer to this question is: (B) Paris",
        "The best option would be B, because A and C are rivers.",
        "I think it is B",
        "Option B is correct",
        "B is right.",
        "A good answer would be B",
        "Not A dog, so B",
        "It's not A. It's B",
        "First I thought the answer is A. No, the answer is B.",
        "A) Rome\nB) Paris\nC) Oslo\nD) Bern\n\nThe answer is B",
    ],
)
def test_one_letter_is_read_however_it_is_said(text: str) -> None:
    assert read_choice(text, LETTERS) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A B C D",
        "A, B, C, D",
        "ABCD",
        "A) Rome\nB) Paris\nC) Oslo\nD) Bern",
        "The answer is A or B",
        "The answer is A/B",
        "The answer is A, B, C and D",
        "The answer is A B C D",
        "The answer is A and maybe B",
        "the answer is A. or B. or C. or D.",
        "Answer: A|B|C|D",
        "(a) or (b)",
        "B is wrong, C is too",
        "The answer is not B",
        "It isn't B",
        "The answer is Paris",
        "The answer is a city",
        "A dog is an animal",
        "E",
        "Bob",
    ],
)
def test_several_letters_or_none_are_no_choice(text: str) -> None:
    assert read_choice(text, LETTERS) is None


def test_a_pronoun_is_no_choice_among_many() -> None:
    assert read_choice("I am sure", "ABCDEFGHIJ") is None
    assert read_choice("I'm sure it is J", "ABCDEFGHIJ") == "J"


@given(st.text(alphabet="ABCDabcd ,.()/\norandswi:", max_size=40))
def test_no_response_is_right_for_two_answers(text: str) -> None:
    """So that no response can do better than a guess, whatever it lists."""
    reward = ChoiceReward().make(AnswerFormat.WHOLE)
    given = [value_of(reward.judge([attempt(text, answer=right)])) for right in LETTERS]
    assert sum(given) <= 1


@pytest.mark.parametrize("right", ["B", " b ", "(B)", "B.", "[b]"])
def test_right_answers_are_letters_in_any_dress(right: str) -> None:
    assert ChoiceReward().right_letter(right) == "B"


def test_right_answers_may_be_numbers_where_it_is_said_what_is_a() -> None:
    assert ChoiceReward(numbered_from=0).right_letter("1") == "B"
    assert ChoiceReward(numbered_from=1).right_letter("1") == "A"
    assert ChoiceReward(options=10).right_letter("J") == "J"


@pytest.mark.parametrize(
    ("settings", "right", "reason"),
    [
        (ChoiceReward(), "1", "is the number 1; set numbered_from of the reward 'choice'"),
        (ChoiceReward(numbered_from=1), "0", "is '0', not a letter from A to D"),
        (ChoiceReward(numbered_from=0), "4", "is '4', not a letter from A to D"),
        (ChoiceReward(), "E", "is 'E', not a letter from A to D"),
        (ChoiceReward(options=2), "C", "from A to B"),
        (ChoiceReward(), "Paris", "is 'Paris'"),
        (ChoiceReward(), "AB", "is 'AB'"),
        (ChoiceReward(), "", "is ''"),
    ],
)
def test_a_right_answer_that_is_no_choice_is_an_odd_row(
    settings: ChoiceReward, right: str, reason: str
) -> None:
    with pytest.raises(InvalidRowError, match=reason):
        settings.make(AnswerFormat.WHOLE).check(example(answer=right))
