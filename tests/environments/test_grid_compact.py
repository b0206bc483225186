import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.frozen_lake_board import FROZEN_LAKE, LakeBoard
from steadyrl.environments.grid_attempt import Puzzle
from steadyrl.environments.grid_compact import CompactRendering, revealed_rulebook
from steadyrl.environments.grid_meaning import Meaning, MeaningSource, all_meanings
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.protocol import Outcome
from steadyrl.environments.sokoban_board import SOKOBAN, read_board
from steadyrl.records.message import Message

COMPACT = CompactRendering()
PAPER = tuple(Move)
# @FH      in letters  ADC
# FFG                  DDB
LAKE = Puzzle(
    game=LakeBoard(ground=("FFH", "FFG"), agent=(0, 0)),
    meaning=Meaning(legend=FROZEN_LAKE, shown="ABCD", actions=PAPER),
    moves=8,
)
BOXES = Puzzle(
    game=read_board(["######", "#@$ .#", "#  $.#", "######"]),
    meaning=Meaning(legend=SOKOBAN, shown="ABCDE", actions=PAPER),
    moves=8,
)


def play(puzzle: Puzzle, plan: str) -> Outcome:
    return COMPACT.start(puzzle).respond(plan)


def test_the_prompt_is_the_board():
    assert COMPACT.prompt(LAKE, None) == (Message(role="user", content="ADC\nDDB"),)


def test_a_rulebook_comes_before_the_board():
    system, board = COMPACT.prompt(LAKE, "be careful")
    assert system == Message(role="system", content="be careful")
    assert board.content == "ADC\nDDB"


def test_the_rulebook_pairs_roles_with_letters_and_directions_with_keys():
    assert COMPACT.rulebook(LAKE) == "@A GB HC FD <l vd >r ^u"
    # The words left, down, right, up lead up, left, down, right: left is the word down, and so on.
    turned = Meaning(
        legend=FROZEN_LAKE, shown="DCAB", actions=(Move.UP, Move.LEFT, Move.DOWN, Move.RIGHT)
    )
    puzzle = Puzzle(game=LAKE.game, meaning=turned, moves=8)
    assert COMPACT.rulebook(puzzle) == "@D GC HA FB <d vr >u ^l"


@pytest.mark.parametrize(
    ("plan", "reward", "feedback"),
    [
        ("drr", 1.0, "@A vdFD >rFD >rGB won"),
        (" drr\n", 1.0, "@A vdFD >rFD >rGB won"),
        ("rr", 0.0, "@A >rFD >rHC lost"),
        ("rrlllll", 0.0, "@A >rFD >rHC lost"),
        ("l", 0.0, "@A <l! plan"),
        ("dd", 0.0, "@A vdFD vd! plan"),
        ("uuuuuuuuuu", 0.0, "@A ^u! ^u! ^u! ^u! ^u! ^u! ^u! ^u! moves"),
    ],
)
def test_feedback_traces_the_plan_until_it_is_over(plan: str, reward: float, feedback: str):
    assert play(LAKE, plan) == Outcome(reward=reward, terminated=True, feedback=feedback)


@pytest.mark.parametrize(
    ("plan", "feedback"),
    [
        # The upper box goes one cell, then onto its goal; stepping back is onto floor.
        ("rrl", "@A >r$B-D >r$B.C <l-D plan"),
        # One step down, then the wall.
        ("ddu", "@A vd-D vd#E! ^u-D plan"),
        # The lower box has the wall behind it.
        ("rrd", "@A >r$B-D >r$B.C vd$B! plan"),
        # The lower box goes onto its goal too, which wins.
        ("rrldr", "@A >r$B-D >r$B.C <l-D vd-D >r$B.C won"),
        # A box on its goal is the small letter; the wall behind it stops the push.
        ("rrr", "@A >r$B-D >r$B.C >r*b! plan"),
    ],
)
def test_feedback_traces_boxes_walls_and_goals(plan: str, feedback: str):
    assert play(BOXES, plan).feedback == feedback


@pytest.mark.parametrize("text", ["", "   ", "RRD", "right", "rrx", "r r", "é", "\ud800", "<plan>"])
def test_an_unreadable_plan_earns_nothing_and_is_shown(text: str):
    outcome = play(LAKE, text)
    assert (outcome.reward, outcome.terminated) == (0.0, True)
    assert outcome.feedback == f"unreadable plan {text.strip()!a}: write letters of ldru only"
    assert outcome.feedback.isascii()


def test_a_long_unreadable_plan_is_shown_in_part():
    assert play(LAKE, "x" * 1000).feedback.startswith(f"unreadable plan '{'x' * 20}...'")


def test_the_reply_for_a_way_uses_the_words_that_lead_there():
    turned = Meaning(
        legend=FROZEN_LAKE, shown="ABCD", actions=(Move.UP, Move.LEFT, Move.DOWN, Move.RIGHT)
    )
    puzzle = Puzzle(game=LAKE.game, meaning=turned, moves=8)
    (plan,) = COMPACT.replies(puzzle, (Move.DOWN, Move.RIGHT, Move.RIGHT))
    assert plan == "ruu"
    assert play(puzzle, plan).reward == 1.0


def test_a_feedback_reveals_the_pairs_in_it_and_no_others():
    assert revealed_rulebook(FROZEN_LAKE, "@A >rFD >rHC lost") == "@A G? HC FD <? v? >r ^?"
    assert revealed_rulebook(SOKOBAN, "@A >r$B.C >r*b! plan") == "@A $B .C -? #? <? v? >r ^?"
    assert revealed_rulebook(FROZEN_LAKE, "@C vrFD vrGB won") == "@C GB H? FD <? vr >? ^?"


def test_an_unreadable_plan_reveals_nothing_whatever_is_in_it():
    feedback = play(LAKE, "HA >l @B").feedback
    assert "HA >l @B" in feedback
    assert revealed_rulebook(FROZEN_LAKE, feedback) == "@? G? H? F? <? v? >? ^?"


@given(number=st.integers(0, 575), plan=st.text("ldru", min_size=1, max_size=12))
def test_what_a_feedback_reveals_is_true(number: int, plan: str):
    meaning = all_meanings(FROZEN_LAKE, MeaningSource.FIXED, MeaningSource.FIXED)[number]
    puzzle = Puzzle(game=LAKE.game, meaning=meaning, moves=8)
    revealed = revealed_rulebook(FROZEN_LAKE, play(puzzle, plan).feedback)
    truth = COMPACT.rulebook(puzzle)
    assert len(revealed) == len(truth)
    assert all(said in (is_so, "?") for said, is_so in zip(revealed, truth, strict=True))
    assert revealed.startswith(f"@{meaning.letter('@')}")
