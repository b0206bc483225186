"""The one meaning that a run hides is compared with all that drills have, not by its number."""

from typing import Any

import pytest

from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.lab.worlds.coded_questions import CodedQuestions
from steadyrl.lab.worlds.hidden_meanings import teaches_what_is_hidden

PAPER, FIXED, PERMUTED = MeaningSource


def lake(
    symbols: MeaningSource, actions: MeaningSource, meaning: int, **options: Any
) -> FrozenLakeSettings:
    return FrozenLakeSettings(symbols=symbols, actions=actions, meaning=meaning, **options)


@pytest.mark.parametrize(
    ("hidden", "drilled", "taught"),
    [
        (lake(PAPER, FIXED, 9), lake(PAPER, PERMUTED, 9), False),
        (lake(PAPER, FIXED, 9), lake(PAPER, PERMUTED, 8), True),
        (lake(PAPER, PAPER, 0), lake(PERMUTED, PERMUTED, 0), False),
        # 4! meanings of the actions for each of the symbols: letters number 9 have the number 216.
        (lake(FIXED, PAPER, 9), lake(PERMUTED, PERMUTED, 9), True),
        (lake(FIXED, PAPER, 9), lake(PERMUTED, PERMUTED, 216), False),
        (lake(FIXED, PAPER, 9), lake(PERMUTED, PERMUTED, 216, slippery=True), False),
        # Of several meanings none is hidden.
        (lake(PAPER, PERMUTED, 8), lake(PAPER, PERMUTED, 9), False),
        # Another game has the words for the actions in common, and no symbols.
        (lake(PAPER, FIXED, 9), SokobanSettings(actions=PERMUTED, meaning=9), False),
        (lake(PAPER, FIXED, 9), SokobanSettings(actions=PERMUTED, meaning=8), True),
        (lake(FIXED, PAPER, 9), SokobanSettings(symbols=PERMUTED, meaning=0), False),
    ],
)
def test_drills_on_a_grid_teach_what_is_among_their_meanings(
    hidden: Any, drilled: Any, taught: bool
) -> None:
    assert teaches_what_is_hidden(drilled, hidden) is taught


@pytest.mark.parametrize(("relations", "taught"), [(4, False), (5, True), (3, False)])
def test_words_are_taught_by_drills_on_more_of_them(relations: int, taught: bool) -> None:
    hidden = CodedQuestions(relations=4, words="fixed", meaning=5)
    drilled = CodedQuestions(relations=relations, words="permuted", meaning=5)
    asked, drills = (HotpotQASettings(questions=q, passages=1) for q in (hidden, drilled))
    assert teaches_what_is_hidden(drills, asked) is taught


def test_worlds_without_hidden_words_teach_nothing() -> None:
    assert not teaches_what_is_hidden(lake(PAPER, PERMUTED, 9), ArithmeticSettings())
    assert not teaches_what_is_hidden(None, lake(PAPER, FIXED, 9))
