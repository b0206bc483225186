"""The recipe of the small lake: what its drills and its reinforcement have in common."""

from pathlib import Path

from steadyrl.algorithms.grid_drills import GridDrillSettings
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.protocol import Split
from steadyrl.recipes import RECIPES
from steadyrl.run.config import RunConfig, from_yaml, to_yaml


def lakes() -> tuple[FrozenLake, FrozenLake, RunConfig]:
    """Where the recipe drills and where it reinforces."""
    config = RECIPES["erl-frozenlake-tiny"]()
    assert config.cold_start is not None
    drills = config.cold_start.teacher
    assert isinstance(drills, GridDrillSettings)
    assert isinstance(drills.environment, FrozenLakeSettings)
    assert isinstance(config.environment, FrozenLakeSettings)
    return FrozenLake(drills.environment), FrozenLake(config.environment), config


def test_no_drill_has_the_meaning_that_is_learned() -> None:
    drilled, played, _ = lakes()
    (book,) = {played.rulebook(played.task(Split.TRAIN, index)) for index in range(50)}
    books = {drilled.rulebook(drilled.task(Split.TRAIN, index)) for index in range(1000)}
    assert book not in books
    assert len(books) == 23  # all but one of the 24 meanings of four words


def test_every_word_means_another_direction_than_its_own() -> None:
    _, played, _ = lakes()
    assert played.rulebook(played.task(Split.TRAIN, 0)).endswith("<u vl >d ^r")


def test_answers_fit_into_their_budgets() -> None:
    _, played, config = lakes()
    assert config.erl is not None
    reflection = config.erl.reflection
    task = played.task(Split.TRAIN, 0)
    assert task.payload.moves + 1 <= config.sampling.max_new_tokens
    assert len("<u vl >d ^r") + 1 <= reflection.sampling.max_new_tokens


def test_the_recipe_survives_a_file(tmp_path: Path) -> None:
    config = RECIPES["erl-frozenlake-tiny"]()
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(config))
    assert from_yaml(path) == config
