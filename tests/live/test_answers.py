"""Rewards and baselines of served answers."""

import pytest

from steadyrl.live.answers import advantages, agreement
from steadyrl.live.records import Example
from steadyrl.records.message import Message


def example(prompt: str) -> Example:
    messages = (Message(role="user", content=prompt), Message(role="assistant", content="3"))
    return Example(session=prompt, turn=0, messages=messages, completion=None)


def test_the_baseline_leaves_the_answer_out() -> None:
    # Three prompts of one answer each: the baselines are the means of the other two.
    found = advantages([example(p) for p in "abc"], [1.0, 0.0, 0.5], {})

    assert found == pytest.approx([1 - 0.25, 0 - 0.75, 0.5 - 0.5])


def test_the_baseline_is_the_prompt_s_own_where_it_has_enough_rewards() -> None:
    # a: own other 0 and earlier 1 and 1, so 2/3 less for the first; b has no other of its own,
    # and one earlier is not enough: the mean of the others of the generation, (1 + 0) / 2.
    examples = [example("a"), example("a"), example("b")]
    earlier = {examples[0].prompt_key: [1.0, 1.0], examples[2].prompt_key: [1.0]}

    found = advantages(examples, [1.0, 0.0, 1.0], earlier)

    assert found == pytest.approx([1 - 2 / 3, 0 - 1.0, 1 - 0.5])


def test_an_answer_alone_has_no_advantage() -> None:
    assert advantages([example("a")], [1.0], {}) == [0.0]


def test_equal_rewards_have_no_advantage() -> None:
    assert advantages([example(p) for p in "abca"], [1.0] * 4, {}) == [0.0] * 4


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["4", "4", " 4", "5"], [1, 1, 1, 0]),
        (["4", "4", "5", "6"], [0, 0, 0, 0]),  # half is not most of them
        (["3", "3", "3", "4"], [0, 0, 0, 0]),  # what the user rejected
        (["4", None, None, "4"], [0, 0, 0, 0]),  # two of four
        (["4", None, "4", "4"], [1, 0, 1, 1]),
        (["4"], [0]),  # one attempt agrees with nobody
        (["", "", ""], [0, 0, 0]),
        ([], []),
    ],
)
def test_most_second_attempts_have_to_agree_on_another_answer(
    answers: list[str | None], expected: list[float]
) -> None:
    assert agreement(answers, " 3 ") == expected
