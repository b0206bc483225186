import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.frozen_lake_board import FROZEN_LAKE, LakeBoard
from steadyrl.environments.grid_attempt import Puzzle
from steadyrl.environments.grid_meaning import Meaning
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.grid_paper import PaperRendering, read_action
from steadyrl.environments.protocol import Outcome
from steadyrl.environments.sokoban_board import SOKOBAN, read_board

PAPER = PaperRendering()
LAKE = Puzzle(
    game=LakeBoard(ground=("FFH", "FFG"), agent=(0, 0)),
    meaning=Meaning(legend=FROZEN_LAKE, shown="ABCD", actions=tuple(Move)),
    moves=8,
)
BOX = Puzzle(
    game=read_board(["#####", "#@$.#", "#####"]),
    meaning=Meaning(legend=SOKOBAN, shown="ABCDE", actions=tuple(Move)),
    moves=2,
)


def reply(action: str) -> str:
    return f"<reason>\n**State:** well\n</reason>\n```\n{action}\n```"


def play(puzzle: Puzzle, *actions: str) -> list[Outcome]:
    episode = PAPER.start(puzzle)
    return [episode.respond(reply(action)) for action in actions]


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("```left```", Move.LEFT),
        ("```\nDown\n```", Move.DOWN),
        ("I go ``` 3 ```.", Move.RIGHT),
        ("``` 4```", Move.UP),
        ("```left``` or rather ```up```", Move.UP),
        ("left", None),
        ("", None),
        ("```left", None),
        ("```go left```", None),
        ("```5```", None),
        ("```left``` ```fly```", None),
    ],
)
def test_the_last_block_between_backticks_names_the_action(text: str, action: Move | None):
    assert read_action(text) == action


@given(text=st.text())
def test_any_reply_is_an_outcome(text: str):
    outcome = PAPER.start(LAKE).respond(text)
    assert outcome.reward == 0.0
    assert not outcome.terminated


def test_the_first_observation_shows_the_board_and_the_turns():
    _, observation = PAPER.prompt(LAKE, None)
    lines = [" A \t D \t C \t", " D \t D \t B \t"]
    board = "\n".join(lines)
    status = "The game is not over. Turns left: 8."
    assert observation.content == f"Observation (0):\n{board}\n{status}"


@pytest.mark.parametrize("puzzle", [LAKE, BOX])
def test_the_prompt_tells_the_action_words_and_no_rules(puzzle: Puzzle):
    system, observation = PAPER.prompt(puzzle, None)
    assert "left, down, right, up" in system.content
    told = re.findall(r"[a-z]+", f"{system.content} {observation.content}".lower())
    assert {"goal", "hole", "wall", "box", "push", "frozen", "player", "win"}.isdisjoint(told)


def test_a_rulebook_takes_the_place_of_the_instructions():
    system, observation = PAPER.prompt(LAKE, "C is a hole.")
    assert system.content.startswith("C is a hole.\n\nReply with one action")
    assert observation == PAPER.prompt(LAKE, None)[1]


def test_the_rulebook_names_symbols_actions_and_the_end():
    turned = Meaning(
        legend=FROZEN_LAKE, shown="DCBA", actions=(Move.UP, Move.LEFT, Move.DOWN, Move.RIGHT)
    )
    rules = PAPER.rulebook(Puzzle(game=LAKE.game, meaning=turned, moves=8))
    assert "D is you; C is the goal; B is a hole; A is frozen ground, which is safe." in rules
    assert "left moves up; down moves left; right moves down; up moves right." in rules
    assert "at most 8 turns" in rules
    assert "Stepping on C wins; stepping on B loses." in rules


def test_a_won_game_is_told_turn_by_turn():
    down, right, end = play(LAKE, "down", "right", "right")
    assert [outcome.reward for outcome in (down, right, end)] == [0.0, 0.0, 1.0]
    assert [outcome.terminated for outcome in (down, right, end)] == [False, False, True]
    assert down.feedback == (
        "You started as A at row 1, column 1.\n"
        "Turn 1: down moved you down onto D, frozen ground, which is safe."
    )
    assert end.observation == ()
    assert end.feedback == (
        "Turn 3: right moved you right onto B, the goal.\n"
        "Won at row 2, column 3: 0 of 3 turns had no effect, 0 were unreadable. Reward 1."
    )


def test_the_next_observation_shows_what_changed_and_the_turns_left():
    (observation,) = play(LAKE, "down")[0].observation
    assert "Observation (1):\n D \t D \t C \t\n A \t D \t B \t\n" in observation.content
    assert observation.content.endswith("Turns left: 7.")


def test_a_hole_ends_the_game():
    _, end = play(LAKE, "right", "right")
    assert (end.reward, end.terminated, end.observation) == (0.0, True, ())
    assert "Turn 2: right moved you right onto C, a hole.\nLost at row 1, column 3" in end.feedback


def test_edges_and_unreadable_replies_cost_a_turn_and_are_told():
    episode = PAPER.start(LAKE)
    edge, unreadable = episode.respond(reply("up")), episode.respond("up, I think")
    assert "Turn 1: up led up, beyond the edge of the board: nothing moved." in edge.feedback
    assert "Turn 2: no action could be read" in unreadable.feedback
    for outcome, left in ((edge, 7), (unreadable, 6)):
        (observation,) = outcome.observation
        assert f"Turns left: {left}.\nYour last reply did not change" in observation.content


def test_running_out_of_turns_is_told_with_counts():
    episode = PAPER.start(LAKE)
    outcomes = [episode.respond(reply("up")) for _ in range(5)]
    outcomes += [episode.respond("") for _ in range(3)]
    assert [outcome.terminated for outcome in outcomes] == [False] * 7 + [True]
    assert outcomes[-1].feedback.endswith(
        "Out of turns, not won, at row 1, column 1: 8 of 8 turns had no effect, "
        "3 were unreadable. Reward 0."
    )


def test_pushes_walls_and_blocked_boxes_are_told():
    wall, push = play(BOX, "up", "right")
    assert "up led up, against E, a wall: nothing moved" in wall.feedback
    assert "right pushed B, a box, right onto C, a goal" in push.feedback
    assert push.reward == 1.0
    stuck = Puzzle(
        game=read_board(["######", "#.$@$#", "# .  #", "######"]), meaning=BOX.meaning, moves=8
    )
    (outcome,) = play(stuck, "right")
    assert "right led right, against B, a box: nothing moved" in outcome.feedback


def test_the_replies_for_a_way_win():
    replies = PAPER.replies(LAKE, (Move.DOWN, Move.RIGHT, Move.RIGHT))
    episode = PAPER.start(LAKE)
    assert [episode.respond(text).reward for text in replies] == [0.0, 0.0, 1.0]
