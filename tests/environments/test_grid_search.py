import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.frozen_lake_board import LakeBoard
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.grid_search import shortest_solution
from steadyrl.environments.sokoban_board import read_board

# The holes leave one way: down, down, right, right, up, up.
DETOUR = LakeBoard(ground=("FHG", "FHF", "FFF"), agent=(0, 0))


def test_the_shortest_way_goes_around_holes():
    way = (Move.DOWN, Move.DOWN, Move.RIGHT, Move.RIGHT, Move.UP, Move.UP)
    assert shortest_solution(DETOUR, limit=6) == way


def test_of_equally_short_ways_the_first_in_the_order_of_moves_is_taken():
    lake = LakeBoard(ground=("FF", "FG"), agent=(0, 0))
    assert shortest_solution(lake, limit=8) == (Move.DOWN, Move.RIGHT)


def test_a_way_longer_than_the_limit_is_none():
    assert shortest_solution(DETOUR, limit=5) is None


def test_a_goal_behind_holes_has_no_way():
    assert shortest_solution(LakeBoard(ground=("FHG",), agent=(0, 0)), limit=8) is None


def test_a_won_game_needs_no_moves():
    assert shortest_solution(LakeBoard(ground=("FG",), agent=(0, 1)), limit=0) == ()


def test_several_boxes_are_pushed_in_the_order_that_takes_the_fewest_moves():
    # Push right onto the goal (1 move), walk back (1), and push left (1): the boxes stand on both
    # sides of the player.
    board = read_board(["#######", "#.$@$.#", "#######"])
    assert shortest_solution(board, limit=8) == (Move.LEFT, Move.RIGHT, Move.RIGHT)


def test_a_search_that_grows_too_large_says_so():
    board = read_board(["########", "#.    @#", "#  $   #", "#      #", "########"])
    with pytest.raises(UserError, match=r"at most 30 moves .* 50 positions.*Lower the limit"):
        shortest_solution(board, limit=30, max_positions=50)
