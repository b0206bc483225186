from steadyrl.environments.frozen_lake_board import FROZEN_LAKE, LakeBoard
from steadyrl.environments.grid_attempt import Attempt, Puzzle
from steadyrl.environments.grid_game import GameStatus
from steadyrl.environments.grid_meaning import Meaning
from steadyrl.environments.grid_moves import Move

PAPER = Meaning(legend=FROZEN_LAKE, shown="ABCD", actions=tuple(Move))
LAKE = LakeBoard(ground=("FFF", "FHF", "FFG"), agent=(0, 0))


def test_an_attempt_is_over_and_paid_when_the_game_is_won():
    attempt = Attempt(Puzzle(game=LAKE, meaning=PAPER, moves=8))
    for word in (Move.RIGHT, Move.RIGHT, Move.DOWN):
        attempt.act(word)
        assert not attempt.over
    attempt.act(Move.DOWN)
    assert (attempt.over, attempt.status, attempt.reward) == (True, GameStatus.WON, 1.0)


def test_a_win_by_the_last_move_counts():
    attempt = Attempt(Puzzle(game=LAKE, meaning=PAPER, moves=4))
    for word in (Move.RIGHT, Move.RIGHT, Move.DOWN, Move.DOWN):
        attempt.act(word)
    assert (attempt.over, attempt.reward) == (True, 1.0)


def test_moves_without_effect_and_waiting_use_up_the_moves():
    attempt = Attempt(Puzzle(game=LAKE, meaning=PAPER, moves=3))
    attempt.act(Move.UP)
    attempt.wait()
    attempt.act(Move.RIGHT)
    assert (attempt.over, attempt.status, attempt.reward) == (True, GameStatus.OPEN, 0.0)
    assert (attempt.turns, attempt.idle) == (3, 2)


def test_words_lead_where_the_meaning_says():
    swapped = Meaning(
        legend=FROZEN_LAKE, shown="ABCD", actions=(Move.RIGHT, Move.UP, Move.LEFT, Move.DOWN)
    )
    attempt = Attempt(Puzzle(game=LAKE, meaning=swapped, moves=8))
    step = attempt.act(Move.LEFT)
    assert (step.word, step.move, attempt.game.agent) == (Move.LEFT, Move.RIGHT, (0, 1))


def test_slips_turn_each_action_by_its_own_quarter():
    # Right slips by +1, a quarter turn to the left of it: up. Then by -1: down. Then not at all.
    centre = LakeBoard(ground=("FFF", "FFF", "FFG"), agent=(1, 0))
    attempt = Attempt(Puzzle(game=centre, meaning=PAPER, moves=3, slips=(1, -1, 0)))
    assert [attempt.act(Move.RIGHT).move for _ in range(3)] == [Move.UP, Move.DOWN, Move.RIGHT]
    assert attempt.game.agent == (1, 1)
