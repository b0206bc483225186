"""Win rates of simple policies that know the rules, as references for a trained policy's score.

Exact, by going through all that can happen; for games in which nothing slips.
"""

from collections.abc import Callable, Sequence

from steadyrl.environments.frozen_lake_board import LakeBoard
from steadyrl.environments.grid_game import Game, GameStatus
from steadyrl.environments.grid_moves import Move, distance

Policy = Callable[[Game], Sequence[Move]]
"""The moves that a policy takes in a position, all equally likely."""


def chance_to_win(game: Game, moves: int, policy: Policy) -> float:
    """The probability that `policy` wins `game` within `moves` moves."""
    known: dict[tuple[Game, int], float] = {}

    def chance(position: Game, left: int) -> float:
        if position.status is not GameStatus.OPEN or left == 0:
            return float(position.status is GameStatus.WON)
        key = position, left
        if key not in known:
            taken = policy(position)
            chances = [chance(position.move(move)[0], left - 1) for move in taken]
            known[key] = sum(chances) / len(chances)
        return known[key]

    return chance(game, moves)


def at_random(game: Game) -> Sequence[Move]:
    """All moves."""
    return tuple(Move)


def straight_to_goal(lake: LakeBoard) -> Sequence[Move]:
    """The moves that bring the player nearer to the goal of a lake, into a hole or not."""
    here = distance(lake.agent, lake.goal)
    return [move for move in Move if distance(move.step(lake.agent), lake.goal) < here]


def around_adjacent_holes(lake: LakeBoard) -> Sequence[Move]:
    """Moves that avoid holes and end nearest to the goal."""
    after = {move: lake.move(move)[0] for move in Move}
    safe = [move for move in Move if after[move].status is not GameStatus.LOST]
    nearest = min([distance(after[move].agent, lake.goal) for move in safe], default=0)
    return [move for move in safe if distance(after[move].agent, lake.goal) == nearest]
