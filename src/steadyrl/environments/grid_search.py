"""Breadth-first search for the shortest solution of a grid game."""

from collections import deque

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_game import Game, GameStatus
from steadyrl.environments.grid_moves import Move


def shortest_solution(
    game: Game, *, limit: int, max_positions: int = 1_000_000
) -> tuple[Move, ...] | None:
    """A shortest sequence of at most `limit` moves that wins `game`; None if there is none.

    Moves are tried in the order left, down, right, up. Positions whose `min_moves` exceed the
    remaining moves are skipped.

    Raises:
        UserError: the search visited more than `max_positions` positions.
    """
    if game.status is GameStatus.WON:
        return ()
    reached = {game}
    waiting: deque[tuple[Game, tuple[Move, ...]]] = deque([(game, ())])
    while waiting:
        position, path = waiting.popleft()
        for move in Move:
            after, _ = position.move(move)
            if after.status is GameStatus.WON:
                return (*path, move) if len(path) < limit else None
            too_far = len(path) + 1 + after.min_moves > limit
            if after in reached or too_far or after.status is GameStatus.LOST:
                continue
            reached.add(after)
            waiting.append((after, (*path, move)))
        if len(reached) > max_positions:
            raise UserError(
                f"No solution of at most {limit} moves was found among {max_positions} positions, "
                "and the search gave up. Lower the limit, or raise max_positions."
            )
    return None
