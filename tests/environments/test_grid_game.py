from string import Formatter

import pytest

from steadyrl.environments.frozen_lake_board import FROZEN_LAKE, SLIPPERY_LAKE
from steadyrl.environments.grid_game import Legend
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.sokoban_board import SOKOBAN

LEGENDS = pytest.mark.parametrize("legend", [FROZEN_LAKE, SLIPPERY_LAKE, SOKOBAN])


def test_hidden_letters_are_the_upper_case_ones_in_the_papers_order():
    assert FROZEN_LAKE.letters == "ABCD"
    assert SOKOBAN.letters == "ABCDE"


def test_a_role_is_found_by_its_glyph():
    assert FROZEN_LAKE.role("H").noun == "a hole"
    assert SOKOBAN.role("*").letter == "b"


@LEGENDS
def test_compact_pairs_are_unambiguous_for_glyphs_letters_and_arrows_differ(legend: Legend):
    signs = [role.glyph for role in legend.roles] + [move.arrow for move in Move]
    letters = [role.letter for role in legend.roles] + [move.key for move in Move]
    assert len({*signs, *letters}) == len(signs) + len(letters)


@LEGENDS
def test_sentences_speak_of_letters_that_exist(legend: Legend):
    known = {role.letter for role in legend.roles}
    for sentence in (legend.effects, legend.end, legend.strategy, legend.tip):
        spoken_of = {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}
        assert spoken_of <= known
