from itertools import islice

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from steadyrl.environments.frozen_lake_board import LakeBoard, all_lakes, draw_lake
from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_game import GameStatus, MoveResult
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.grid_search import shortest_solution


def gymnasium_lake(lake: LakeBoard, *, is_slippery: bool) -> FrozenLakeEnv:
    return FrozenLakeEnv(desc=[row.replace("@", "S") for row in lake.rows], is_slippery=is_slippery)


def some_lakes(count: int) -> list[LakeBoard]:
    return [
        draw_lake(Draws(5, n), size=2 + n % 8, frozen=0.6 + 0.2 * (n % 2), max_path=6)
        for n in range(count)
    ]


def test_the_rules_are_gymnasiums_over_ten_thousand_random_steps():
    generator, steps = np.random.default_rng(0), 0
    for lake in some_lakes(120):
        oracle, size = gymnasium_lake(lake, is_slippery=False), len(lake.ground)
        for _ in range(20):
            oracle.reset()
            game, ended = lake, False
            while not ended and steps < 12_000:
                move = Move(int(generator.integers(4)))
                game, _ = game.move(move)
                place, reward, ended, _, _ = oracle.step(int(move))
                assert divmod(int(place), size) == game.agent
                assert ended == (game.status is not GameStatus.OPEN)
                assert reward == (game.status is GameStatus.WON)
                steps += 1
    assert steps >= 10_000


def test_slips_are_gymnasiums_transitions():
    for lake in some_lakes(24):
        table, size = gymnasium_lake(lake, is_slippery=True).P, len(lake.ground)
        start = lake.agent[0] * size + lake.agent[1]
        for word in Move:
            theirs = sorted((round(p, 9), place) for p, place, _, _ in table[start][word])
            moves = [Move((word + slip) % 4) for slip in (-1, 0, 1)]
            ours = [lake.move(move)[0].agent for move in moves]
            assert theirs == sorted((round(1 / 3, 9), row * size + col) for row, col in ours)


def test_a_move_says_what_it_met():
    lake = LakeBoard(ground=("FFH", "FFG"), agent=(0, 1))
    assert lake.move(Move.UP) == (lake, MoveResult(met=None, moved=False))
    assert lake.move(Move.RIGHT)[1] == MoveResult(met="H", moved=True)
    assert lake.move(Move.LEFT)[1] == MoveResult(met="F", moved=True)


def test_the_cell_under_the_player_at_the_start_is_frozen():
    lake = LakeBoard(ground=("FFH", "FFG"), agent=(0, 0))
    assert lake.rows == ("@FH", "FFG")
    assert lake.move(Move.RIGHT)[0].rows == ("F@H", "FFG")


def test_drawn_lakes_have_distinct_ends_and_a_way_that_is_short_enough():
    for number in range(200):
        lake = draw_lake(Draws(number), size=2 + number % 8, frozen=0.6, max_path=4)
        way = shortest_solution(lake, limit=100)
        assert way is not None
        assert 1 <= len(way) <= 4
        assert "".join(lake.ground).count("G") == 1
        assert lake.status is GameStatus.OPEN


@pytest.mark.parametrize(("frozen", "share"), [(0.6, 0.6), (0.85, 0.85)])
def test_cells_are_frozen_at_the_stated_rate(frozen: float, share: float):
    # On 2 x 2 boards with neighboring ends nothing is drawn anew, and two cells are free.
    drawn = [draw_lake(Draws(n), size=2, frozen=frozen, max_path=1) for n in range(3000)]
    frozen_cells = sum("".join(lake.rows).count("F") for lake in drawn)
    assert abs(frozen_cells / 6000 - share) < 4 * (share * (1 - share) / 6000) ** 0.5


def test_the_smallest_lakes_are_44():
    # 12 places of start and goal times 4 fillings, without the 4 diagonal ones between two holes.
    assert len(set(all_lakes(size=2, max_path=6))) == 44
    drawn = {draw_lake(Draws(n), size=2, frozen=0.6, max_path=6) for n in range(2000)}
    assert drawn == set(all_lakes(size=2, max_path=6))


def test_lakes_are_listed_once():
    listed = list(islice(all_lakes(size=3, max_path=2), 2000))
    assert len(set(listed)) == len(listed)
