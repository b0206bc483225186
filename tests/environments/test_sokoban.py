from functools import cache
from pathlib import Path
from statistics import fmean

import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_environment import split_of_game
from steadyrl.environments.grid_moves import Cell
from steadyrl.environments.grid_search import shortest_solution
from steadyrl.environments.protocol import Split
from steadyrl.environments.sokoban import Sokoban, SokobanSettings
from steadyrl.environments.sokoban_board import SokobanBoard
from steadyrl.environments.sokoban_levels import all_levels, read_levels
from steadyrl.lab.worlds.grid_references import at_random, chance_to_win


def test_drawn_levels_have_the_papers_sizes_and_solutions():
    played = Sokoban(SokobanSettings())
    games = [played.task(Split.TRAIN, index).payload.game for index in range(100)]
    assert {len(game.ground) for game in games} == {6, 7, 8}
    lengths = {len(shortest_solution(game, limit=8)) for game in games[:40]}
    assert {5, 6, 7, 8} <= lengths <= set(range(1, 9))


def test_levels_with_inner_walls_are_divided_among_the_splits() -> None:
    walled = Sokoban(SokobanSettings(min_size=6, max_size=6, inner_walls=0.2))
    for split in Split:
        games = [walled.task(split, index).payload.game for index in range(20)]
        assert {split_of_game(game) for game in games} == {split}
        assert any("#" in row[1:-1] for game in games for row in game.rows[1:-1])


@cache
def chance_at_random(goal: Cell, box: Cell, agent: Cell, left: int) -> float:
    """The chance that random moves push the box home on 4 x 4 cells, written apart."""
    if box == goal or left == 0:
        return float(box == goal)
    chance = 0.0
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        ahead = (agent[0] + down, agent[1] + right)
        pushed = (ahead[0] + down, ahead[1] + right) if ahead == box else box
        free = all(1 <= place <= 4 for place in (*ahead, *pushed))
        after = (pushed, ahead) if free else (box, agent)
        chance += chance_at_random(goal, *after, left - 1) / 4
    return chance


def test_a_random_policy_hardly_ever_wins():
    # The paper's released levels, most of them larger, give 0.024 to 0.0285.
    levels = list(all_levels(size=6, max_path=8))
    chances = [chance_at_random(*places(level), 8) for level in levels]
    assert 0.03 < fmean(chances) < 0.05
    for number in (0, 400, 800):
        assert chance_to_win(levels[number], 8, at_random) == pytest.approx(chances[number])


def places(level: SokobanBoard) -> tuple[Cell, Cell, Cell]:
    (goal,) = [(row, line.index(".")) for row, line in enumerate(level.ground) if "." in line]
    (box,) = level.boxes
    return goal, box, level.agent


@pytest.mark.parametrize("size", [3, 4])
def test_a_world_too_small_for_three_splits_is_refused(size: int):
    message = rf"Sokoban levels of size {size} .* 8 moves: none is left for test, train, val"
    with pytest.raises(UserError, match=message):
        Sokoban(SokobanSettings(min_size=size))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_size": 9}, "min_size is 9, more than max_size, which is 8.*Raise max_size"),
        ({"moves": 5}, "max_path is 8, but an episode has 5 moves.*Raise moves"),
        ({"boxes": 2}, "boxes"),
        ({"inner_walls": 0.6}, "inner_walls"),
        ({"inner_walls": 0.1, "levels": "a.txt"}, "inner_walls is 0.1, .* read from a.txt"),
        ({"min_size": 3, "levels": "a.txt"}, "min_size is 3, .* read from a.txt. Remove one of"),
        ({"max_path": 4, "levels": "a.txt"}, "max_path is 4, .* read from a.txt"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        SokobanSettings.model_validate(settings)


def test_a_file_of_levels_sets_no_least_number_of_moves() -> None:
    settings = SokobanSettings(levels="a.txt", moves=5)
    assert SokobanSettings.model_validate(settings.model_dump()) == settings


def level_file(path: Path, lengths: range) -> Path:
    """A corridor of each length, in which the box is pushed to the end."""
    levels = [f"{'#' * (n + 4)}\n#@${' ' * (n - 1)}.#\n{'#' * (n + 4)}\n" for n in lengths]
    path.write_text("\n".join(levels))
    return path


def test_levels_of_a_file_are_shared_out_among_the_splits_and_start_over(tmp_path: Path):
    path = level_file(tmp_path / "levels.txt", range(1, 61))
    played = Sokoban(SokobanSettings(levels=path, moves=60, rendering="compact"))
    asked = [{played.task(split, index).payload.game for index in range(60)} for split in Split]
    assert sum(map(len, asked)) == len(set().union(*asked)) == 60
    assert [played.distinct_tasks(split) for split in Split] == [*map(len, asked)]
    task = played.task(Split.TRAIN, 0)
    (plan,) = played.solution(task)
    assert set(plan) == {"r"}
    assert played.start(task).respond(plan).reward == 1.0


def test_levels_that_are_drawn_or_asked_in_many_meanings_are_not_counted(tmp_path: Path):
    path = level_file(tmp_path / "levels.txt", range(1, 61))
    renamed = SokobanSettings(levels=path, rendering="compact", symbols="permuted")
    assert Sokoban(renamed).distinct_tasks(Split.TEST) is None
    assert Sokoban(SokobanSettings()).distinct_tasks(Split.TEST) is None


def test_a_split_without_levels_is_refused(tmp_path: Path):
    played = Sokoban(SokobanSettings(levels=level_file(tmp_path / "levels.txt", range(1, 2))))
    (level,) = read_levels(tmp_path / "levels.txt")
    for split in set(Split) - {split_of_game(level)}:
        with pytest.raises(UserError, match=rf"is in the {split} split. Use a file with"):
            played.task(split, 0)


def test_a_level_that_cannot_be_solved_in_an_episode_has_no_solution(tmp_path: Path):
    played = Sokoban(SokobanSettings(levels=level_file(tmp_path / "levels.txt", range(20, 60))))
    task = played.task(Split.TRAIN, 0)
    with pytest.raises(UserError, match=r"sokoban/train/0 cannot be won in 8 moves. Raise moves"):
        played.solution(task)
