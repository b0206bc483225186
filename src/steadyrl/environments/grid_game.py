"""What a grid game is: a position, what a move does to it, and the words for what is met.

A game is a frozen record; a move gives another one. Inside the package a cell is a glyph that never
changes its meaning ("H" is a hole). What a policy reads are letters, see `grid_meaning`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from steadyrl.environments.grid_moves import Cell, Move


class GameStatus(StrEnum):
    """How a position stands."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    """What one move met.

    Example:
        MoveResult(met="$", pushed_onto=".", moved=True)
    """

    met: str | None
    """Glyph of the cell that the move led to, as it was; None beyond the edge of the board."""

    moved: bool
    """Whether anything moved."""

    pushed_onto: str | None = None
    """Glyph of the cell that a box was pushed onto; None when no box moved."""


@runtime_checkable
class Game(Protocol):
    """A position of a grid game. Records of the same position are equal and hash alike."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The board, one glyph a cell."""
        ...

    @property
    def agent(self) -> Cell:
        """Where the player is."""
        ...

    @property
    def status(self) -> GameStatus:
        """Whether the game is won, lost, or goes on."""
        ...

    @property
    def min_moves(self) -> int:
        """No solution is shorter than this."""
        ...

    def move(self, move: Move) -> tuple["Game", MoveResult]:
        """The position after `move`, and what it met."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one glyph stands for.

    Example:
        Role(glyph="H", letter="C", noun="a hole")
    """

    glyph: str

    letter: str
    """The paper's letter for it. A lower-case one is a variant of the upper-case one's role."""

    noun: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """The words of a game. `{A}` in its sentences stands for the letter that now has A's role.

    Example:
        Legend(roles=(Role(glyph="@", letter="A", noun="you"),), effects="...", ...)
    """

    roles: tuple[Role, ...]
    effects: str
    """What actions do besides moving the player."""

    end: str
    """When the game is over, and how."""

    strategy: str
    tip: str

    @property
    def letters(self) -> str:
        """The letters whose meaning is hidden: "ABCD"."""
        return "".join([role.letter for role in self.roles if role.letter.isupper()])

    def role(self, glyph: str) -> Role:
        """The role of `glyph`."""
        return next(role for role in self.roles if role.glyph == glyph)
