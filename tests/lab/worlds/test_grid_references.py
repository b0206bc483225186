import pytest

from steadyrl.environments.frozen_lake_board import LakeBoard
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.sokoban_board import read_board
from steadyrl.lab.worlds.grid_references import (
    around_adjacent_holes,
    at_random,
    chance_to_win,
    straight_to_goal,
)


@pytest.mark.parametrize(("moves", "chance"), [(0, 0.0), (1, 1 / 4), (2, 7 / 16)])
def test_the_chance_counts_every_way_to_win(moves: int, chance: float):
    # @G: right wins; the three others stay where they are. Twice: 1 - (3/4)**2.
    assert chance_to_win(LakeBoard(ground=("FG",), agent=(0, 0)), moves, at_random) == chance


def test_a_hole_ends_the_chance():
    # H@G: a quarter wins at once, a quarter loses, and half stays: 1/4 + 1/2 * 1/4.
    lake = LakeBoard(ground=("HFG",), agent=(0, 1))
    assert chance_to_win(lake, 2, at_random) == 3 / 8


def test_a_box_one_push_away_is_won_by_that_push_alone():
    assert chance_to_win(read_board(["#####", "#@$.#", "#####"]), 1, at_random) == 1 / 4


def test_the_straight_policy_does_not_see_holes():
    # @H
    # FG
    lake = LakeBoard(ground=("FH", "FG"), agent=(0, 0))
    assert straight_to_goal(lake) == [Move.DOWN, Move.RIGHT]
    assert chance_to_win(lake, 8, straight_to_goal) == 1 / 2


def test_the_careful_policy_goes_around_a_hole_next_to_it():
    lake = LakeBoard(ground=("FH", "FG"), agent=(0, 0))
    assert around_adjacent_holes(lake) == [Move.DOWN]
    assert chance_to_win(lake, 8, around_adjacent_holes) == 1.0


def test_the_careful_policy_does_not_plan():
    # @FHG   It waits before the hole, where up stays nearest to the goal: the way around is down,
    # FFFF   a cell further from the goal.
    lake = LakeBoard(ground=("FFHG", "FFFF"), agent=(0, 0))
    assert around_adjacent_holes(lake) == [Move.RIGHT]
    assert Move.DOWN not in around_adjacent_holes(LakeBoard(ground=lake.ground, agent=(0, 1)))
