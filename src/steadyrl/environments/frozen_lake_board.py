"""Board of FrozenLake: reach the goal without stepping into a hole.

Glyphs: @ the player, F frozen, H hole, G goal, as in gymnasium's FrozenLake-v1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product

from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_game import GameStatus, Legend, MoveResult, Role
from steadyrl.environments.grid_moves import STEPS, Cell, Move, distance

FROZEN_LAKE = Legend(
    roles=(
        Role(glyph="@", letter="A", noun="you"),
        Role(glyph="G", letter="B", noun="the goal"),
        Role(glyph="H", letter="C", noun="a hole"),
        Role(glyph="F", letter="D", noun="frozen ground, which is safe"),
    ),
    effects="Every action moves you by one cell; at the edge of the board nothing moves.",
    end="Stepping on {B} wins; stepping on {C} loses.",
    strategy="Find {A} and {B}, and plan the shortest way between them that avoids every {C}.",
    tip="Before each step, check that the cell you are about to enter is no {C}.",
)

SLIPPERY_LAKE = replace(
    FROZEN_LAKE,
    effects="Every action moves you by one cell, in its own direction or in one of the two at "
    "right angles to it, each a third of the time; at the edge of the board nothing moves.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeBoard:
    """Position on a lake.

    Example:
        LakeBoard(ground=("FFH", "FFG"), agent=(0, 0))
    """

    ground: tuple[str, ...]
    """Rows without the player: F, H and one G. The player's start is F."""

    agent: Cell

    @property
    def goal(self) -> Cell:
        """Cell of the goal."""
        return next((row, line.index("G")) for row, line in enumerate(self.ground) if "G" in line)

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows with the player."""
        row, column = self.agent
        line = self.ground[row]
        shown = f"{line[:column]}@{line[column + 1 :]}"
        return (*self.ground[:row], shown, *self.ground[row + 1 :])

    @property
    def status(self) -> GameStatus:
        """Won on the goal, lost in a hole."""
        row, column = self.agent
        return {"G": GameStatus.WON, "H": GameStatus.LOST, "F": GameStatus.OPEN}[
            self.ground[row][column]
        ]

    @property
    def min_moves(self) -> int:
        """Distance to the goal without holes."""
        return distance(self.agent, self.goal)

    def move(self, move: Move) -> tuple["LakeBoard", MoveResult]:
        """The next position, unchanged at the edge of the board."""
        row, column = cell = move.step(self.agent)
        if not (0 <= row < len(self.ground) and 0 <= column < len(self.ground[row])):
            return self, MoveResult(met=None, moved=False)
        met = MoveResult(met=self.ground[row][column], moved=True)
        return LakeBoard(ground=self.ground, agent=cell), met


def draw_lake(draws: Draws, *, size: int, frozen: float, max_path: int) -> LakeBoard:
    """Draws a lake whose goal can be reached in at most `max_path` moves.

    Start and goal are distinct. Every other cell is frozen with probability `frozen`. Lakes without
    such a path are rejected.
    """
    while True:
        agent, goal = (divmod(cell, size) for cell in draws.distinct(2, size * size))
        if distance(agent, goal) > max_path:
            continue
        others = ["F" if safe else "H" for safe in draws.chances(frozen, size * size - 2)]
        lake = _lake(size, agent, goal, others)
        if is_solvable(lake, max_path):
            return lake


def all_lakes(*, size: int, max_path: int) -> Iterator[LakeBoard]:
    """All lakes that `draw_lake` can return."""
    cells = [divmod(cell, size) for cell in range(size * size)]
    for agent, goal in permutations(cells, 2):
        for others in product("FH", repeat=size * size - 2):
            lake = _lake(size, agent, goal, others)
            if is_solvable(lake, max_path):
                yield lake


def is_solvable(lake: LakeBoard, moves: int) -> bool:
    """Whether the goal can be reached in at most `moves` moves."""
    ground = {
        (row, column): glyph
        for row, line in enumerate(lake.ground)
        for column, glyph in enumerate(line)
        if glyph != "H"
    }
    reached = {lake.agent}
    for _ in range(moves):
        near = {(r + down, c + right) for r, c in reached for down, right in STEPS.values()}
        reached |= near & ground.keys()
        if "G" in [ground[cell] for cell in reached]:
            return True
    return False


def _lake(size: int, agent: Cell, goal: Cell, others: Iterable[str]) -> LakeBoard:
    """The lake with cells `others`, row by row, besides start and goal."""
    rest = iter(others)
    known = {agent: "F", goal: "G"}
    cells = [divmod(cell, size) for cell in range(size * size)]
    glyphs = "".join([known[cell] if cell in known else next(rest) for cell in cells])
    rows = [glyphs[start : start + size] for start in range(0, size * size, size)]
    return LakeBoard(ground=tuple(rows), agent=agent)
