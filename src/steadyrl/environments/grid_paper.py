"""Grid games as in the ERL paper: one action per turn, and a prompt without rules.

The structure follows tables 2, 4, 6 and 7 of arXiv:2602.13949, in our own words. Departs from the
authors' code where it contradicts the paper or itself: the remaining turns are those of the
environment, nothing on the board is named, and no hint says when a box can be pushed.
"""

import re

from steadyrl.environments.grid_attempt import Attempt, Puzzle, Step
from steadyrl.environments.grid_game import GameStatus
from steadyrl.environments.grid_meaning import Meaning
from steadyrl.environments.grid_moves import Cell, Move
from steadyrl.environments.protocol import Episode, Outcome
from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.message import Message

INSTRUCTIONS = """\
You are an agent in a grid game. Reason before every action. You are not told the rules: what you \
believe about symbols and actions, and the strategy that you follow, are guesses that may be wrong.

Before every action:
1. Summarize the state of the board as you understand it.
2. Estimate its long-term value.
3. Predict the results of your two best actions, and why.
4. Choose the better one.

Answer in exactly this format:
<reason>
**State:** your summary
**Value:** High, Medium or Low, and why
**Prediction:** for each of the two actions: its result, because ...
</reason>
```
your action
```"""

REMINDER = """\
Reply with one action between triple backticks. The actions are: left, down, right, up."""

RULEBOOK = """\
<game_rules>
1. Symbols: {symbols}.
2. Information: you see the whole board; each cell shows one symbol.
3. Play: one action per turn, at most {moves} turns.
4. Actions: {actions}. {effects}
5. End: {end}
</game_rules>
<strategy>
1. {strategy}
2. {tip}
</strategy>"""

_NUMBERS = {str(move + 1): move for move in Move}
_WORDS = {move.word: move for move in Move}
_BLOCK = re.compile(r"```(.*?)```", re.DOTALL)


def read_action(reply: str) -> Move | None:
    """Action in the last block between triple backticks, as a word or a number from 1 to 4.

    None if there is no block or it contains anything else.
    """
    blocks: list[str] = _BLOCK.findall(reply)
    if not blocks:
        return None
    name = blocks[-1].strip().lower()
    return _WORDS.get(name, _NUMBERS.get(name))


class PaperRendering:
    """Text form of the paper: instructions as a system message, one observation per turn."""

    def prompt(self, puzzle: Puzzle, rulebook: str | None) -> tuple[Message, ...]:
        """Instructions or rulebook, the reminder, and the first observation."""
        instructions = INSTRUCTIONS if rulebook is None else rulebook
        system = Message(role="system", content=f"{instructions}\n\n{REMINDER}")
        return system, _observation(Attempt(puzzle), changed=True)

    def rulebook(self, puzzle: Puzzle) -> str:
        """Rules and strategy in the seven slots of the paper's reflections."""
        meaning = puzzle.meaning
        roles = meaning.legend.roles
        symbols = [f"{meaning.letter(role.glyph)} is {role.noun}" for role in roles]
        actions = [f"{word.word} moves {meaning.actions[word].word}" for word in Move]
        return RULEBOOK.format(
            symbols="; ".join(symbols),
            actions="; ".join(actions),
            moves=puzzle.moves,
            effects=meaning.fill(meaning.legend.effects),
            end=meaning.fill(meaning.legend.end),
            strategy=meaning.fill(meaning.legend.strategy),
            tip=meaning.fill(meaning.legend.tip),
        )

    def replies(self, puzzle: Puzzle, moves: tuple[Move, ...]) -> tuple[str, ...]:
        """One block between triple backticks for each move."""
        return tuple([f"```\n{puzzle.meaning.word(move).word}\n```" for move in moves])

    def start(self, puzzle: Puzzle) -> Episode:
        """Starts an attempt with one action per turn."""
        return _TurnByTurn(puzzle)


class _TurnByTurn:
    def __init__(self, puzzle: Puzzle) -> None:
        self._attempt = Attempt(puzzle)
        self._unreadable = 0

    def respond(self, text: str) -> Outcome:
        attempt, before = self._attempt, self._attempt.board
        lines = [] if attempt.turns else [_beginning(attempt)]
        action = read_action(strip_thinking(text))
        if action is None:
            attempt.wait()
            self._unreadable += 1
            event = "no action could be read; name one of left, down, right, up in triple backticks"
        else:
            event = _event(attempt.act(action), attempt.puzzle.meaning)
        lines.append(f"Turn {attempt.turns}: {event}.")
        if not attempt.over:
            observation = _observation(attempt, changed=attempt.board != before)
            feedback = "\n".join(lines)
            return Outcome(
                reward=0.0, terminated=False, observation=(observation,), feedback=feedback
            )
        lines.append(_ending(attempt, self._unreadable))
        return Outcome(reward=attempt.reward, terminated=True, feedback="\n".join(lines))


def _observation(attempt: Attempt, *, changed: bool) -> Message:
    """The board in the paper's layout: each cell between spaces and followed by a tab."""
    grid = "\n".join(["".join([f" {cell} \t" for cell in row]) for row in attempt.board])
    left = attempt.puzzle.moves - attempt.turns
    status = f"The game is not over. Turns left: {left}."
    unchanged = "" if changed else "\nYour last reply did not change the board."
    content = f"Observation ({attempt.turns}):\n{grid}\n{status}{unchanged}"
    return Message(role="user", content=content)


def _beginning(attempt: Attempt) -> str:
    row, column = attempt.game.agent
    shown = attempt.board[row][column]
    return f"You started as {shown} at {_place(attempt.game.agent)}."


def _event(step: Step, meaning: Meaning) -> str:
    """Description of a step, with letter and name of every cell it touched."""

    def named(glyph: str) -> str:
        return f"{meaning.letter(glyph)}, {meaning.legend.role(glyph).noun}"

    action, way, result = step.word.word, step.move.word, step.result
    if result.met is None:
        return f"{action} led {way}, beyond the edge of the board: nothing moved"
    if not result.moved:
        return f"{action} led {way}, against {named(result.met)}: nothing moved"
    if result.pushed_onto is not None:
        return f"{action} pushed {named(result.met)}, {way} onto {named(result.pushed_onto)}"
    return f"{action} moved you {way} onto {named(result.met)}"


def _ending(attempt: Attempt, unreadable: int) -> str:
    how = {
        GameStatus.WON: "Won",
        GameStatus.LOST: "Lost",
        GameStatus.OPEN: "Out of turns, not won,",
    }
    counts = f"{attempt.idle} of {attempt.turns} turns had no effect, {unreadable} were unreadable"
    where = f"{how[attempt.status]} at {_place(attempt.game.agent)}"
    return f"{where}: {counts}. Reward {attempt.reward:g}."


def _place(cell: Cell) -> str:
    return f"row {cell[0] + 1}, column {cell[1] + 1}"
