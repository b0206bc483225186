import json
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_game import GameStatus, MoveResult
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.grid_search import shortest_solution
from steadyrl.environments.sokoban_board import read_board

# Written by benchmarks/sokoban_vectors.py.
RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "gym_sokoban.json").read_text(encoding="utf-8")
)
KEYS = {move.key: move for move in Move}


def effect(result: MoveResult, status: GameStatus) -> str:
    if not result.moved:
        return "."
    if result.pushed_onto is None:
        return "m"
    return "s" if status is GameStatus.WON else "p"


def test_the_rules_are_gym_sokobans_over_ten_thousand_random_steps():
    steps = 0
    for room in RECORD["rooms"]:
        game = read_board(room["rows"])
        for number, (key, theirs) in enumerate(zip(room["actions"], room["effects"], strict=True)):
            game, result = game.move(KEYS[key])
            ours = effect(result, game.status)
            assert ours == theirs, f"step {number} in {room['rows']}"
            steps += 1
        assert list(game.rows) == room["end"]
    assert steps >= 10_000


def test_the_recorded_rooms_have_several_boxes_pushes_and_solutions():
    effects = "".join(room["effects"] for room in RECORD["rooms"])
    boxes = {sum(row.count("$") + row.count("*") for row in r["rows"]) for r in RECORD["rooms"]}
    assert boxes == {1, 2, 3, 4}
    assert effects.count("p") > 1000
    assert effects.count("s") > 10


def test_glyphs_are_read_and_shown_alike():
    rows = ["######", "#+$*-#", "#-.-$#", "######"]
    assert read_board([row.replace("-", " ") for row in rows]).rows == tuple(rows)
    assert read_board([row.replace("-", "_") for row in rows]).rows == tuple(rows)
    assert read_board(["####", "#@$.#", "####"]).rows == ("#####", "#@$.#", "#####")


def test_the_edge_of_the_board_is_as_solid_as_a_wall():
    board = read_board(["$@."])
    assert board.move(Move.UP) == (board, MoveResult(met=None, moved=False))
    assert board.move(Move.LEFT) == (board, MoveResult(met="$", moved=False))


def test_a_player_on_a_goal_leaves_the_goal():
    board = read_board(["#######", "#+ $  #", "#######"])
    assert board.move(Move.RIGHT)[0].rows[1] == "#.@$--#"


@pytest.mark.parametrize(
    ("rows", "solution"),
    [
        # Walk around the box, then push it left: down, right, right, up, left.
        (["######", "#.@$ #", "#    #", "######"], 6),
        (["######", "#.$@ #", "######"], 1),
    ],
)
def test_no_solution_is_shorter_than_the_moves_needed(rows: list[str], solution: int):
    board = read_board(rows)
    way = shortest_solution(board, limit=12)
    assert len(way) == solution
    for done, move in enumerate(way):
        assert board.min_moves <= solution - done
        board, _ = board.move(move)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["#@$.x#"], "The level has 'x' in it. Use only"),
        (["#$.#"], "The level has 0 players. Put one @"),
        (["#@+$#"], "The level has 2 players"),
        (["#@$$.#"], "The level has 2 boxes and 1 goals. The numbers must"),
        (["#@ #"], "The level has 0 boxes and 0 goals"),
        (["#@*#"], "The level is already solved. Remove it"),
    ],
)
def test_what_is_no_level_is_refused(rows: list[str], message: str):
    with pytest.raises(UserError, match=message):
        read_board(rows)
