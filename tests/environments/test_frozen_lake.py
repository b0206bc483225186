from statistics import fmean

import numpy as np
import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.frozen_lake_board import LakeBoard
from steadyrl.environments.grid_search import shortest_solution
from steadyrl.environments.protocol import Split
from steadyrl.lab.worlds.grid_references import at_random, chance_to_win

LAKE = FrozenLake(FrozenLakeSettings())


def test_sizes_and_ways_cover_the_papers_range():
    games = [LAKE.task(Split.TRAIN, index).payload.game for index in range(600)]
    sizes = [len(game.ground) for game in games]
    ways = [len(shortest_solution(game, limit=8)) for game in games[:100]]
    assert set(ways) == {1, 2, 3, 4, 5, 6}
    # Each of eight sizes: 75 expected, with a standard deviation of 8.1.
    assert all(abs(sizes.count(size) - 75) < 33 for size in range(2, 10))


def chance_at_random(lake: LakeBoard) -> float:
    """The chance that eight random moves end on the goal, written apart from the environment."""
    size = len(lake.ground)
    cells = np.array([list(row) for row in lake.ground])
    still = cells != "F"
    here = np.zeros((size, size))
    here[lake.agent] = 1.0
    for _ in range(8):
        leaving = np.where(still, 0.0, here / 4)
        here = np.where(still, here, 0.0)
        padded = np.pad(leaving, 1)
        here += padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
        for edge in ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1)):
            here[edge] += leaving[edge]
    return float(here[cells == "G"].sum())


def test_a_random_policy_wins_about_as_often_as_on_the_released_maps():
    # About 0.22 on the released training maps, 0.196 on the test maps. The standard deviation
    # between tasks is 0.22, that of the mean of 1000 0.007.
    games = [LAKE.task(Split.TRAIN, index).payload.game for index in range(1000)]
    assert fmean([chance_at_random(game) for game in games]) == pytest.approx(0.206, abs=0.028)
    for game in games[:10]:
        assert chance_to_win(game, 8, at_random) == pytest.approx(chance_at_random(game))


def test_lakes_too_small_for_three_splits_are_refused():
    # 2 x 2 lakes with neighboring ends are 32, and none of them falls into the test split.
    with pytest.raises(
        UserError, match=r"lakes of size 2 .* 1 moves: none is left for test. Raise"
    ):
        FrozenLake(FrozenLakeSettings(max_path=1))


def test_a_slippery_lake_slips_alike_in_every_attempt_at_a_task():
    slippery = FrozenLake(FrozenLakeSettings(slippery=True, rendering="compact"))
    tasks = [slippery.task(Split.TRAIN, index) for index in range(300)]
    slips = [slip for task in tasks for slip in task.payload.slips]
    assert len(slips) == 300 * 8
    # A third of each: 800 expected, with a standard deviation of 23.
    assert all(abs(slips.count(slip) - 800) < 93 for slip in (-1, 0, 1))
    for task in tasks[:20]:
        one, other = (slippery.start(task).respond("rrddllu") for _ in range(2))
        assert one == other


def test_the_rulebook_of_a_slippery_lake_says_so():
    slippery = FrozenLake(FrozenLakeSettings(slippery=True))
    assert "a third of the time" in slippery.rulebook(slippery.task(Split.TRAIN, 0))
    assert "a third of the time" not in LAKE.rulebook(LAKE.task(Split.TRAIN, 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"min_size": 5, "max_size": 4},
            "min_size is 5, more than max_size, which is 4.*Raise max_size",
        ),
        ({"min_frozen": 0.9}, "min_frozen is 0.9, more than max_frozen, which is 0.85.*Raise"),
        ({"max_path": 9}, "max_path is 9, but an episode has 8 moves.*Raise moves"),
        ({"max_size": 10}, "less than or equal to 9"),
        ({"holes": 3}, "holes"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        FrozenLakeSettings.model_validate(settings)
