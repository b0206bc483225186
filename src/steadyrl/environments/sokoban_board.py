"""Board of Sokoban: push every box onto a goal. Any walls, any number of boxes.

Glyphs of common level files: @ player, $ box, . goal, # wall, - floor, + player on a goal, * box on
a goal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_game import GameStatus, Legend, MoveResult, Role
from steadyrl.environments.grid_moves import Cell, Move, distance

SOKOBAN = Legend(
    roles=(
        Role(glyph="@", letter="A", noun="you"),
        Role(glyph="+", letter="a", noun="you, on a goal"),
        Role(glyph="$", letter="B", noun="a box"),
        Role(glyph="*", letter="b", noun="a box on a goal"),
        Role(glyph=".", letter="C", noun="a goal"),
        Role(glyph="-", letter="D", noun="free floor"),
        Role(glyph="#", letter="E", noun="a wall"),
    ),
    effects="Every action moves you by one cell. A box ahead of you ({B} or {b}) is pushed one "
    "cell on if the cell behind it is floor or a goal; if not, and at a wall, nothing moves. "
    "Boxes cannot be pulled.",
    end="The game is won when every box is on a goal and shown as {b}.",
    strategy="Find {A}, {B} and {C}. Walk to the side of the box that is away from the goal, and "
    "push it there.",
    tip="Keep boxes out of corners, where no push can move them again.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SokobanBoard:
    """A position of Sokoban.

    Example:
        SokobanBoard(ground=("#####", "#--.#", "#####"), agent=(1, 1), boxes=frozenset({(1, 2)}))
    """

    ground: tuple[str, ...]
    """Rows without player and boxes: wall #, floor - and goal."""

    agent: Cell
    boxes: frozenset[Cell]

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows with player and boxes."""
        cells = [
            [self._glyph((row, column)) for column in range(len(line))]
            for row, line in enumerate(self.ground)
        ]
        return tuple(map("".join, cells))

    @property
    def status(self) -> GameStatus:
        """Won if every box is on a goal. Never lost."""
        return GameStatus.WON if self.boxes <= _goals(self.ground) else GameStatus.OPEN

    @property
    def min_moves(self) -> int:
        """Sum of the distances of boxes to their nearest goals, plus the distance to a box."""
        goals = _goals(self.ground)
        away = self.boxes - goals
        pushes = sum([min([distance(box, goal) for goal in goals]) for box in away])
        return pushes + min([distance(self.agent, box) for box in away], default=1) - 1

    def move(self, move: Move) -> tuple["SokobanBoard", MoveResult]:
        """The position after a step or push, unchanged if neither is possible."""
        ahead = move.step(self.agent)
        met = self._glyph(ahead)
        if met in ("", "#"):
            return self, MoveResult(met=met or None, moved=False)
        if ahead not in self.boxes:
            return self._after(ahead, self.boxes), MoveResult(met=met, moved=True)
        behind = move.step(ahead)
        onto = self._glyph(behind)
        if onto not in ("-", "."):
            return self, MoveResult(met=met, moved=False)
        boxes = self.boxes - {ahead} | {behind}
        return self._after(ahead, boxes), MoveResult(met=met, moved=True, pushed_onto=onto)

    def _after(self, agent: Cell, boxes: frozenset[Cell]) -> "SokobanBoard":
        return SokobanBoard(ground=self.ground, agent=agent, boxes=boxes)

    def _glyph(self, cell: Cell) -> str:
        """Glyph at `cell`; empty beyond the edge."""
        row, column = cell
        if not (0 <= row < len(self.ground) and 0 <= column < len(self.ground[row])):
            return ""
        ground = self.ground[row][column]
        if cell in self.boxes:
            return "*" if ground == "." else "$"
        if cell == self.agent:
            return "+" if ground == "." else "@"
        return ground


@lru_cache(maxsize=1024)
def _goals(ground: tuple[str, ...]) -> frozenset[Cell]:
    return _cells_of(ground, ".")


def _cells_of(rows: Sequence[str], glyphs: str) -> frozenset[Cell]:
    return frozenset(
        [
            (row, column)
            for row, line in enumerate(rows)
            for column, glyph in enumerate(line)
            if glyph in glyphs
        ]
    )


_GROUND = str.maketrans("@$+* _", "--..--")


def read_board(rows: Sequence[str], *, where: str = "The level") -> SokobanBoard:
    """Parses rows of glyphs.

    Space and _ are floor too. Short rows are padded with walls.

    Raises:
        UserError: the rows are not a level, or it is solved; the message begins with `where`.
    """
    unknown = set("".join(rows)) - set("@$+*.#- _")
    if unknown:
        raise UserError(f"{where} has {min(unknown)!r} in it. Use only # @ $ . * + - _ and space.")
    agents, boxes, goals = (_cells_of(rows, glyphs) for glyphs in ("@+", "$*", ".+*"))
    if len(agents) != 1:
        raise UserError(f"{where} has {len(agents)} players. Put one @ (or +) on it.")
    if len(boxes) != len(goals) or not boxes:
        raise UserError(
            f"{where} has {len(boxes)} boxes and {len(goals)} goals. The numbers must be equal "
            "and at least 1."
        )
    if boxes == goals:
        raise UserError(f"{where} is already solved. Remove it.")
    width = max(map(len, rows))
    ground = tuple([row.translate(_GROUND).ljust(width, "#") for row in rows])
    return SokobanBoard(ground=ground, agent=min(agents), boxes=boxes)
