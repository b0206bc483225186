"""Grid puzzles, attempts at them, and the protocol that renders them as text."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steadyrl.environments.grid_game import Game, GameStatus, MoveResult
from steadyrl.environments.grid_meaning import Meaning
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.protocol import Episode
from steadyrl.records.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """Payload of grid tasks.

    Example:
        Puzzle(game=LakeBoard(ground=("FFG",), agent=(0, 0)), meaning=meaning, moves=8)
    """

    game: Game
    """Initial position."""

    meaning: Meaning

    moves: int
    """Maximum number of actions in an attempt."""

    slips: tuple[int, ...] = ()
    """Quarter turns to the left (+1) or right (-1) applied to the actions in order; empty if
    nothing slips."""

    @property
    def board(self) -> tuple[str, ...]:
        """Initial rows as the policy sees them."""
        return self.meaning.board(self.game.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of an attempt.

    Example:
        Step(word=Move.LEFT, move=Move.UP, result=MoveResult(met="F", moved=True))
    """

    word: Move
    """Action word that was named."""

    move: Move
    """Direction it led in."""

    result: MoveResult


class Attempt:
    """Attempt at a puzzle."""

    def __init__(self, puzzle: Puzzle) -> None:
        self.puzzle = puzzle
        self.game = puzzle.game
        self.turns = 0
        self.idle = 0

    @property
    def status(self) -> GameStatus:
        """Status of the current position."""
        return self.game.status

    @property
    def over(self) -> bool:
        """Whether the attempt is over."""
        return self.status is not GameStatus.OPEN or self.turns == self.puzzle.moves

    @property
    def reward(self) -> float:
        """1 if the game is won, else 0."""
        return float(self.status is GameStatus.WON)

    @property
    def board(self) -> tuple[str, ...]:
        """Current rows as the policy sees them."""
        return self.puzzle.meaning.board(self.game.rows)

    def act(self, word: Move) -> Step:
        """Performs the action named `word`."""
        slip = self.puzzle.slips[self.turns] if self.puzzle.slips else 0
        move = Move((self.puzzle.meaning.actions[word] + slip) % len(Move))
        self.game, result = self.game.move(move)
        self.turns += 1
        self.idle += not result.moved
        return Step(word=word, move=move, result=result)

    def wait(self) -> None:
        """Passes one action without effect."""
        self.turns += 1
        self.idle += 1


@runtime_checkable
class Rendering(Protocol):
    """Text form of puzzles and replies."""

    def prompt(self, puzzle: Puzzle, rulebook: str | None) -> tuple[Message, ...]:
        """Prompt, with `rulebook` instead of the default instructions unless it is None."""
        ...

    def rulebook(self, puzzle: Puzzle) -> str:
        """Meaning of the symbols and actions of the puzzle."""
        ...

    def replies(self, puzzle: Puzzle, moves: tuple[Move, ...]) -> tuple[str, ...]:
        """Replies, turn by turn, that move in the directions `moves`."""
        ...

    def start(self, puzzle: Puzzle) -> Episode:
        """Starts an attempt."""
        ...
