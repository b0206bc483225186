"""Directions and cells of a grid."""

from enum import IntEnum

Cell = tuple[int, int]
"""(row, column), counted from 0 at the top left."""


class Move(IntEnum):
    """One cell in a direction; numbered as gymnasium's FrozenLake numbers its actions."""

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
        """The first letter of the word: "l"."""
        return self.word[0]

    @property
    def arrow(self) -> str:
        """The direction as one character: "<"."""
        return "<v>^"[self]

    def step(self, cell: Cell) -> Cell:
        """The cell next to `cell` in this direction, on the grid or not."""
        down, right = STEPS[self]
        return cell[0] + down, cell[1] + right


STEPS: dict[Move, Cell] = {
    Move.LEFT: (0, -1),
    Move.DOWN: (1, 0),
    Move.RIGHT: (0, 1),
    Move.UP: (-1, 0),
}
"""Rows down and columns to the right that each move leads."""


def distance(one: Cell, other: Cell) -> int:
    """Moves from one cell to the other when nothing is in the way."""
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
