"""Compact text form of grid games for small character-level models: one reply, few characters.

    prompt      ADDC        the board, after the rulebook as a system message if there is one
                DDCB
    reply       ddrr        a plan: first letters of action words, executed until the game is over
    feedback    @A vdFD vd! >rFD >rHC lost
    rulebook    @A GB HC FD <l vd >r ^u

Rulebook and feedback use the same pairs. `HC`: the letter C is a hole (H). `vd`: the action d leads
down. In the feedback an action is followed by the cell it met, or by `!` if nothing moved; a pushed
box is followed by the cell it was pushed onto. The last word is the reason why the attempt ended:
won, lost, moves (all used) or plan (no more actions).
"""

import re

from steadyrl.environments.grid_attempt import Attempt, Puzzle, Step
from steadyrl.environments.grid_game import GameStatus, Legend
from steadyrl.environments.grid_meaning import Meaning
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.protocol import Episode, Outcome
from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.message import Message

_KEYS = {move.key: move for move in Move}
_EXCERPT = 20
_UNREADABLE = "unreadable plan"


class CompactRendering:
    """Compact text form of grid games."""

    def prompt(self, puzzle: Puzzle, rulebook: str | None) -> tuple[Message, ...]:
        """The board, after the rulebook if there is one."""
        board = Message(role="user", content="\n".join(puzzle.board))
        return (board,) if rulebook is None else (Message(role="system", content=rulebook), board)

    def rulebook(self, puzzle: Puzzle) -> str:
        """Pairs of all upper-case letters and of the four actions."""
        meaning = puzzle.meaning
        symbols = [glyph + meaning.letter(glyph) for glyph in _glyphs(meaning.legend)]
        actions = [move.arrow + meaning.word(move).key for move in Move]
        return " ".join(symbols + actions)

    def replies(self, puzzle: Puzzle, moves: tuple[Move, ...]) -> tuple[str, ...]:
        """The plan."""
        return ("".join([puzzle.meaning.word(move).key for move in moves]),)

    def start(self, puzzle: Puzzle) -> Episode:
        """Starts an attempt of one turn."""
        return _OnePlan(puzzle)


def revealed_rulebook(legend: Legend, feedback: str) -> str:
    """The rulebook as far as a compact `feedback` reveals it, with `?` for the rest.

    If actions slip, the feedback shows directions of movement instead of meanings of actions.
    """
    trace, _, _ending = feedback.rpartition(" ")
    seen = "" if feedback.startswith(_UNREADABLE) else trace
    symbols = [(glyph, rf"{re.escape(glyph)}([A-Z])") for glyph in _glyphs(legend)]
    actions = [(move.arrow, rf"{re.escape(move.arrow)}([ldru])") for move in Move]
    found = [(sign, re.search(pattern, seen)) for sign, pattern in symbols + actions]
    return " ".join([sign + (pair.group(1) if pair else "?") for sign, pair in found])


class _OnePlan:
    def __init__(self, puzzle: Puzzle) -> None:
        self._attempt = Attempt(puzzle)

    def respond(self, text: str) -> Outcome:
        attempt, plan = self._attempt, strip_thinking(text).strip()
        if not plan or not set(plan) <= set(_KEYS):
            shown = plan if len(plan) <= _EXCERPT else plan[:_EXCERPT] + "..."
            feedback = f"{_UNREADABLE} {shown!a}: write letters of ldru only"
            return Outcome(reward=0.0, terminated=True, feedback=feedback)
        row, column = attempt.game.agent
        meaning = attempt.puzzle.meaning
        trace = [_pair(attempt.game.rows[row][column], meaning)]
        for key in plan:
            if attempt.over:
                break
            trace.append(_entry(attempt.act(_KEYS[key]), meaning))
        feedback = " ".join([*trace, _ending(attempt)])
        return Outcome(reward=attempt.reward, terminated=True, feedback=feedback)


def _glyphs(legend: Legend) -> list[str]:
    return [role.glyph for role in legend.roles if role.letter.isupper()]


def _pair(glyph: str, meaning: Meaning) -> str:
    return glyph + meaning.letter(glyph)


def _entry(step: Step, meaning: Meaning) -> str:
    result = step.result
    met = "" if result.met is None else _pair(result.met, meaning)
    onto = "" if result.pushed_onto is None else _pair(result.pushed_onto, meaning)
    return f"{step.move.arrow}{step.word.key}{met}{onto}{'' if result.moved else '!'}"


def _ending(attempt: Attempt) -> str:
    if attempt.status is not GameStatus.OPEN:
        return attempt.status.value
    return "moves" if attempt.over else "plan"
