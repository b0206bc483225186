"""Sokoban levels: drawn at random, enumerated, or read from a file."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_moves import STEPS, Cell
from steadyrl.environments.sokoban_board import SokobanBoard, read_board


def draw_level(draws: Draws, *, size: int, max_path: int, inner_walls: float = 0.0) -> SokobanBoard:
    """Draws a level with one box that can be solved in `max_path` moves.

    A solvable level without inner walls must exist.

    Args:
        inner_walls: Probability that a cell inside the border is a wall. Walls without a solvable
            level are redrawn; all solvable levels of the walls are equally likely.
    """
    inner = _inner(size)
    while True:
        walls = draws.chances(inner_walls, len(inner)) if inner_walls else [False] * len(inner)
        free = tuple([cell for cell, wall in zip(inner, walls, strict=True) if not wall])
        if places := _places(free, max_path):
            return _level(size, free, *places[draws.below(len(places))])


def all_levels(*, size: int, max_path: int) -> Iterator[SokobanBoard]:
    """All levels with one box inside border walls that can be solved in `max_path` moves."""
    inner = _inner(size)
    for goal, box, agent in _places(inner, max_path):
        yield _level(size, inner, goal, box, agent)


def read_levels(path: Path) -> list[SokobanBoard]:
    """Reads a file of levels in the common format, such as Boxoban's.

    Levels are separated by empty lines and lines that begin with a semicolon.

    Raises:
        UserError: the file cannot be read, or holds no level or an invalid one; names its first
            line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
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


def _inner(size: int) -> tuple[Cell, ...]:
    """Cells inside the border."""
    return tuple(product(range(1, size - 1), range(1, size - 1)))


@lru_cache(maxsize=16)
def _places(free: tuple[Cell, ...], max_path: int) -> list[tuple[Cell, Cell, Cell]]:
    """Goal, box and player cells of all solvable levels on the `free` cells."""
    return [
        (goal, box, agent)
        for goal in free
        for box, agent in _reachable_backward(goal, free, max_path)
        if goal not in (box, agent)
    ]


def _reachable_backward(
    goal: Cell, inner: tuple[Cell, ...], moves: int
) -> dict[tuple[Cell, Cell], None]:
    """Box and player positions from which at most `moves` moves bring the box onto `goal`.

    Searched backward: the player walks, or pulls the box ahead.
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


def _level(size: int, free: tuple[Cell, ...], goal: Cell, box: Cell, agent: Cell) -> SokobanBoard:
    floor = dict.fromkeys(free, "-") | {goal: "."}
    cells = [[floor.get((row, column), "#") for column in range(size)] for row in range(size)]
    ground = tuple(map("".join, cells))
    return SokobanBoard(ground=ground, agent=agent, boxes=frozenset({box}))
