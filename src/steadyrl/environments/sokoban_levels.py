"""Sokoban levels: drawn at random, enumerated, or read from a file."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_moves import STEPS, Cell
from steadyrl.environments.sokoban_board import SokobanBoard, read_board
from steadyrl.records.errors import UserError


def draw_level(draws: Draws, *, size: int, max_path: int) -> SokobanBoard:
    """One of `all_levels`, all equally likely. There must be one."""
    places = _places(size, max_path)
    return _level(size, *places[draws.below(len(places))])


def all_levels(*, size: int, max_path: int) -> Iterator[SokobanBoard]:
    """Every level of one box between border walls that can be solved in `max_path` moves."""
    for goal, box, agent in _places(size, max_path):
        yield _level(size, goal, box, agent)


def read_levels(path: Path) -> list[SokobanBoard]:
    """The levels of a file in the usual format, such as Boxoban's.

    Levels stand between empty lines and lines that begin with a semicolon.

    Raises:
        UserError: the file cannot be read, or holds no level or a broken one; names its first line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read the levels in {path} ({error}). Give the path of a UTF-8 text file."
        ) from error
    levels: list[SokobanBoard] = []
    rows: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.strip() and not line.startswith(";"):
            rows.append(line.rstrip())
        elif rows:
            levels.append(
                read_board(rows, where=f"The level at line {number - len(rows)} of {path}")
            )
            rows = []
    if not levels:
        raise UserError(f"There are no levels in {path}. Give a file with at least one.")
    return levels


@lru_cache(maxsize=16)
def _places(size: int, max_path: int) -> list[tuple[Cell, Cell, Cell]]:
    """Goal, box and player, on three cells, of the levels of this size."""
    inner = [(row, column) for row in range(1, size - 1) for column in range(1, size - 1)]
    return [
        (goal, box, agent)
        for goal in inner
        for box, agent in _pulled_away(goal, inner, max_path)
        if goal not in (box, agent)
    ]


def _pulled_away(goal: Cell, inner: list[Cell], moves: int) -> dict[tuple[Cell, Cell], None]:
    """Box and player wherever they may be `moves` moves or less before the box is on `goal`.

    Found backwards: the player walks, or pulls the box that is ahead of him.
    """
    free = set(inner)
    reached = dict.fromkeys([(goal, agent) for agent in inner if agent != goal])
    latest = list(reached)
    for _ in range(moves):
        earlier = []
        for box, (row, column) in latest:
            for down, right in STEPS.values():
                before = (row - down, column - right)
                if before not in free:
                    continue
                if before != box:
                    earlier.append((box, before))
                if box == (row + down, column + right):
                    earlier.append(((row, column), before))
        latest = [state for state in dict.fromkeys(earlier) if state not in reached]
        reached |= dict.fromkeys(latest)
    return reached


def _level(size: int, goal: Cell, box: Cell, agent: Cell) -> SokobanBoard:
    inner = "#" + "-" * (size - 2) + "#"
    rows = ["#" * size, *[inner] * (size - 2), "#" * size]
    row, column = goal
    rows[row] = f"{rows[row][:column]}.{rows[row][column + 1 :]}"
    return SokobanBoard(ground=tuple(rows), agent=agent, boxes=frozenset({box}))
