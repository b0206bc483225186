import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.question_answering import (
    answer_f1,
    answer_reward,
    exact_match,
    normalize_answer,
)

# An independent scorer, from the rules of the official evaluation: letter by letter, word by word.


def oracle_words(text: str) -> list[str]:
    kept = "".join([letter for letter in text.lower() if letter not in string.punctuation])
    return [word for word in re.split(r"\s+", kept) if word not in ("", "a", "an", "the")]


def oracle_f1(answer: str, gold: str) -> float:
    given_words, right_words = oracle_words(answer), oracle_words(gold)
    for one, other in ((given_words, right_words), (right_words, given_words)):
        if one in (["yes"], ["no"], ["noanswer"]) and one != other:
            return 0.0
    left = list(right_words)
    shared = 0
    for word in given_words:
        if word in left:
            left.remove(word)
            shared += 1
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given_words), shared / len(right_words)
    return 2 * precision * recall / (precision + recall)


WORDS = ["the", "An", "a", "a.", "yes", "No!", "noanswer", "new", "York", "york,", "U.S.", "1,000"]
texts = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@given(answer=texts, gold=texts)
def test_scores_agree_with_an_independent_scorer(answer: str, gold: str):
    assert answer_f1(answer, gold) == pytest.approx(oracle_f1(answer, gold), abs=1e-12)
    assert exact_match(answer, gold) == (oracle_words(answer) == oracle_words(gold))


@given(answer=texts, gold=texts)
def test_the_score_is_symmetric_and_an_exact_match_is_its_maximum(answer: str, gold: str):
    assert answer_f1(answer, gold) == answer_f1(gold, answer)
    assert 0.0 <= answer_f1(answer, gold) <= 1.0
    if exact_match(answer, gold):
        assert answer_f1(answer, gold) == (1.0 if normalize_answer(gold) else 0.0)
        assert answer_reward(answer, gold, min_f1=0.3) == 1.0


def test_normalization_drops_case_punctuation_articles_and_spaces():
    assert normalize_answer(" The  U.S.A.,\n an Island-State ") == "usa islandstate"
    assert normalize_answer("Theatre of a Banana") == "theatre of banana"
    assert normalize_answer("A.") == ""


@pytest.mark.parametrize(
    ("answer", "gold", "reward"),
    [
        ("the Eiffel Tower!", "Eiffel tower", 1.0),
        # One of one word is right, one of two is found: 2 * 1 / (1 + 2).
        ("Eiffel", "Eiffel Tower", 2 / 3),
        # "new" counts once, as often as the answer has it: 2 * 1 / (2 + 2).
        ("new thing", "New New", 0.5),
        # 2 * 3 / (10 + 10) is 0.3, the least that is paid.
        ("k l m n o p q x y z", "r s t u v w b x y z", 0.3),
        # 2 * 2 / (7 + 7) is 0.286, which is less.
        ("k l m n o y z", "r s t u v y z", 0.0),
        ("yes", "yes", 1.0),
        ("Yes.", "YES", 1.0),
        ("yes", "no", 0.0),
        # As words these would share one of three: 0.5.
        ("yes it is", "yes", 0.0),
        ("yes", "yes it is", 0.0),
        ("no answer", "noanswer", 0.0),
        # Both contain a closed word without being one: 2 * 2 / (2 + 3).
        ("yes minister", "yes prime minister", 0.8),
        ("", "Paris", 0.0),
    ],
)
def test_an_exact_match_pays_one_and_a_good_part_its_f1(answer: str, gold: str, reward: float):
    assert answer_reward(answer, gold, min_f1=0.3) == pytest.approx(reward)


def test_the_least_f1_that_is_paid_can_be_set():
    assert answer_reward("Eiffel", "Eiffel Tower", min_f1=0.7) == 0.0
    assert answer_reward("Eiffel", "Eiffel Tower", min_f1=0.0) == pytest.approx(2 / 3)
    assert answer_reward("Rome", "Eiffel Tower", min_f1=0.0) == 0.0
