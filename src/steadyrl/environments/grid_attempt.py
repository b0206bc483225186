"""A grid puzzle, one attempt at it, and the protocol by which a policy gets to see it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steadyrl.environments.grid_game import Game, GameStatus, MoveResult
from steadyrl.environments.grid_meaning import Meaning
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.protocol import Episode
from steadyrl.records.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """What the environment knows of a task: the payload of grid tasks.

    Example:
        Puzzle(game=LakeBoard(ground=("FFG",), agent=(0, 0)), meaning=meaning, moves=8)
    """

    game: Game
    """The position at the start."""

    meaning: Meaning

    moves: int
    """Actions after which an attempt is over."""

    slips: tuple[int, ...] = ()
    """Quarter turns to the left (+1) or right (-1) by which each action in order is led astray.
    Empty where nothing slips."""

    @property
    def board(self) -> tuple[str, ...]:
        """The rows at the start, as a policy reads them."""
        return self.meaning.board(self.game.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of an attempt.

    Example:
        Step(word=Move.LEFT, move=Move.UP, result=MoveResult(met="F", moved=True))
    """

    word: Move
    """The action that was named, by its word."""

    move: Move
    """Where it led."""

    result: MoveResult


class Attempt:
    """A puzzle being played."""

    def __init__(self, puzzle: Puzzle) -> None:
        self.puzzle = puzzle
        self.game = puzzle.game
        self.turns = 0
        self.idle = 0

    @property
    def status(self) -> GameStatus:
        """Whether the game is won, lost, or goes on, as far as the board says."""
        return self.game.status

    @property
    def over(self) -> bool:
        """Whether no further action counts."""
        return self.status is not GameStatus.OPEN or self.turns == self.puzzle.moves

    @property
    def reward(self) -> float:
        """1 for a won game, else 0."""
        return float(self.status is GameStatus.WON)

    @property
    def board(self) -> tuple[str, ...]:
        """The rows, as a policy reads them."""
        return self.puzzle.meaning.board(self.game.rows)

    def act(self, word: Move) -> Step:
        """Takes the action named `word`."""
        slip = self.puzzle.slips[self.turns] if self.puzzle.slips else 0
        move = Move((self.puzzle.meaning.actions[word] + slip) % len(Move))
        self.game, result = self.game.move(move)
        self.turns += 1
        self.idle += not result.moved
        return Step(word=word, move=move, result=result)

    def wait(self) -> None:
        """Lets one action pass without effect."""
        self.turns += 1
        self.idle += 1


@runtime_checkable
class Rendering(Protocol):
    """How puzzles and attempts are written, and replies read."""

    def prompt(self, puzzle: Puzzle, rulebook: str | None) -> tuple[Message, ...]:
        """What is asked, with `rulebook` in the place of the initial instructions."""
        ...

    def rulebook(self, puzzle: Puzzle) -> str:
        """What letters and actions mean in this puzzle."""
        ...

    def replies(self, puzzle: Puzzle, moves: tuple[Move, ...]) -> tuple[str, ...]:
        """What a policy writes, turn by turn, to go in the directions `moves`."""
        ...

    def start(self, puzzle: Puzzle) -> Episode:
        """A fresh attempt."""
        ...
