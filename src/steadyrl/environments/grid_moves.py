"""Cells and directions of a grid."""

from enum import IntEnum

Cell = tuple[int, int]
"""(row, column), zero-based from the top left."""


class Move(IntEnum):
    """Direction, numbered like the actions of gymnasium's FrozenLake."""

    LEFT = 0
    DOWN = 1
    RIGHT = 2
    UP = 3

    @property
    def word(self) -> str:
        """The direction in English: "left"."""
        return self.name.lower()

    @property
    def key(self) -> str:
        """First letter of the word: "l"."""
        return self.word[0]

    @property
    def arrow(self) -> str:
        """The direction as one character: "<"."""
        return "<v>^"[self]

    def step(self, cell: Cell) -> Cell:
        """The adjacent cell in this direction, inside the grid or not."""
        down, right = STEPS[self]
        return cell[0] + down, cell[1] + right


STEPS: dict[Move, Cell] = {
    Move.LEFT: (0, -1),
    Move.DOWN: (1, 0),
    Move.RIGHT: (0, 1),
    Move.UP: (-1, 0),
}
"""Row and column offset of each move."""


def distance(one: Cell, other: Cell) -> int:
    """Number of moves between two cells without obstacles."""
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
