import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.base.errors import UserError
from steadyrl.environments.frozen_lake_board import FROZEN_LAKE
from steadyrl.environments.grid_meaning import (
    Meaning,
    MeaningSource,
    all_meanings,
    allowed_meanings,
)
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.sokoban_board import SOKOBAN

PAPER, FIXED, PERMUTED = MeaningSource.PAPER, MeaningSource.FIXED, MeaningSource.PERMUTED


def test_number_0_is_the_papers_meaning():
    for symbols in MeaningSource:
        for actions in MeaningSource:
            first = all_meanings(FROZEN_LAKE, symbols, actions)[0]
            assert (first.shown, first.actions) == ("ABCD", tuple(Move))


@pytest.mark.parametrize(
    ("legend", "symbols", "actions", "count"),
    [
        (FROZEN_LAKE, PAPER, PAPER, 1),
        (FROZEN_LAKE, FIXED, PAPER, 24),
        (FROZEN_LAKE, PAPER, FIXED, 24),
        (FROZEN_LAKE, PERMUTED, FIXED, 24 * 24),
        (SOKOBAN, PERMUTED, PERMUTED, 120 * 24),
    ],
)
def test_numbers_count_every_meaning_once(legend, symbols, actions, count):
    meanings = all_meanings(legend, symbols, actions)
    assert len({(meaning.shown, meaning.actions) for meaning in meanings}) == len(meanings) == count


def test_a_fixed_meaning_is_the_one_with_its_number():
    (meaning,) = allowed_meanings(FROZEN_LAKE, FIXED, FIXED, 100)
    assert meaning == all_meanings(FROZEN_LAKE, FIXED, FIXED)[100]


def test_permuted_meanings_are_all_but_the_numbered_one():
    everything = all_meanings(FROZEN_LAKE, PERMUTED, PERMUTED)
    allowed = allowed_meanings(FROZEN_LAKE, PERMUTED, PERMUTED, 100)
    assert [meaning for meaning in everything if meaning not in allowed] == [everything[100]]


def test_what_is_fixed_stays_while_the_rest_is_permuted():
    numbered = all_meanings(FROZEN_LAKE, PERMUTED, FIXED)[100]
    allowed = allowed_meanings(FROZEN_LAKE, PERMUTED, FIXED, 100)
    assert {meaning.actions for meaning in allowed} == {numbered.actions}
    assert len(allowed) == 23
    assert numbered.shown not in {meaning.shown for meaning in allowed}


def test_a_number_beyond_the_meanings_is_refused():
    with pytest.raises(UserError, match=r"numbered from 0 to 23, got meaning=24. Choose one"):
        allowed_meanings(FROZEN_LAKE, FIXED, PAPER, 24)
    with pytest.raises(UserError, match=r"symbols='paper' .* from 0 to 0, got meaning=3"):
        allowed_meanings(FROZEN_LAKE, PAPER, PAPER, 3)


def test_boards_are_shown_in_the_letters_of_the_meaning():
    # Roles in the paper's order are player, goal, hole, frozen: shown as D, C, B, A.
    meaning = Meaning(legend=FROZEN_LAKE, shown="DCBA", actions=tuple(Move))
    assert meaning.board(("@FH", "FFG")) == ("DAB", "AAC")


def test_variants_of_a_role_follow_its_letter():
    # Player and box swap letters, so that the box on a goal is the small letter of the player's.
    meaning = Meaning(legend=SOKOBAN, shown="BACDE", actions=tuple(Move))
    assert meaning.board(("#@$.-#", "#+*--#")) == ("EBACDE", "EbaDDE")
    assert meaning.fill("push {B} or {b}") == "push A or a"


@given(number=st.integers(0, 575))
def test_the_word_for_a_direction_leads_there(number: int):
    meaning = all_meanings(FROZEN_LAKE, FIXED, FIXED)[number]
    assert all(meaning.actions[meaning.word(move)] == move for move in Move)
