"""Protocol of grid games: positions, moves, and words for what a move meets.

A position is a frozen record and a move returns another one. In code a cell is a glyph with a fixed
meaning ("H" is a hole). The policy sees letters instead, see `grid_meaning`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from steadyrl.environments.grid_moves import Cell, Move


class GameStatus(StrEnum):
    """Status of a game."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    """Result of one move.

    Example:
        MoveResult(met="$", pushed_onto=".", moved=True)
    """

    met: str | None
    """Glyph of the target cell before the move; None beyond the edge of the board."""

    moved: bool
    """Whether anything moved."""

    pushed_onto: str | None = None
    """Glyph of the cell that a box was pushed onto; None if no box moved."""


@runtime_checkable
class Game(Protocol):
    """Position of a grid game. Equal positions compare equal and have equal hashes."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The board, one glyph per cell."""
        ...

    @property
    def agent(self) -> Cell:
        """Cell of the player."""
        ...

    @property
    def status(self) -> GameStatus:
        """Whether the game is won, lost or open."""
        ...

    @property
    def min_moves(self) -> int:
        """Lower bound of the moves to a win."""
        ...

    def move(self, move: Move) -> tuple["Game", MoveResult]:
        """The position after `move`, and the result of the move."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Role of a glyph.

    Example:
        Role(glyph="H", letter="C", noun="a hole")
    """

    glyph: str

    letter: str
    """Letter of the paper. A lower-case letter is a variant of the upper-case one's role."""

    noun: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """Texts of a game.

    `{A}` in a sentence is replaced by the letter that currently has the role of A.

    Example:
        Legend(roles=(Role(glyph="@", letter="A", noun="you"),), effects="...", ...)
    """

    roles: tuple[Role, ...]
    effects: str
    """Effects of actions besides moving the player."""

    end: str
    """Conditions that end the game."""

    strategy: str
    tip: str

    @property
    def letters(self) -> str:
        """Letters whose meaning is hidden: "ABCD"."""
        return "".join([role.letter for role in self.roles if role.letter.isupper()])

    def role(self, glyph: str) -> Role:
        """Role of `glyph`."""
        return next(role for role in self.roles if role.glyph == glyph)
