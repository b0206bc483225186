"""The studies of Experiential RL: equal budgets, and one change at a time."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.configurations import identity
from steadyrl.lab.records import find_records
from steadyrl.lab.study import Study
from steadyrl.lab.worlds.second_chance import SecondChanceSettings
from steadyrl.policies.numerics import Numerics
from steadyrl.recipes import find_recipe
from steadyrl.run.config import RunConfig

WORLDS = ["erl-frozenlake", "erl-sokoban", "erl-questions"]
EVERY_WORLD = pytest.mark.parametrize("name", WORLDS)
RECORDS = Path(__file__).parents[2] / "results" / "runs"


def conditions_of(name: str) -> dict[str, RunConfig]:
    return {
        condition.name: condition.config for condition in STUDIES[name](Numerics.FP8).conditions
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {field for field in one | other if one.get(field) != other.get(field)}


@EVERY_WORLD
def test_conditions_differ_from_the_recipe_in_algorithm_numerics_and_journal(name: str) -> None:
    recipe = find_recipe(f"{name}-tiny")().model_dump()
    conditions = conditions_of(name)
    assert differing(recipe, conditions["ERL"].model_dump()) == {"engine", "journal", "trackers"}
    for config in conditions.values():
        assert differing(recipe, config.model_dump()) <= {
            "engine",
            "journal",
            "trackers",
            "algorithm",
        }


@EVERY_WORLD
def test_each_part_is_taken_out_alone(name: str) -> None:
    conditions = conditions_of(name)
    whole = conditions["ERL"].algorithm
    assert isinstance(whole, ExperientialSettings)
    changes = {
        condition: differing(whole.model_dump(), config.algorithm.model_dump())
        for condition, config in conditions.items()
        if isinstance(config.algorithm, ExperientialSettings)
    }
    assert changes == {
        "ERL": set(),
        "ERL - memory": {"memory"},
        "ERL - reflection": {"reflection", "memory"},  # nothing is left that could be remembered
        "ERL - internalization": {"internalization"},
        "ERL - gate": {"gate"},
        "ERL, MiniRL": {"objective", "advantage"},
        "ERL, held reflector": {"reflection"},
    }


@EVERY_WORLD
def test_no_condition_has_more_generations_than_reinforcement_alone(name: str) -> None:
    conditions = conditions_of(name)
    whole = conditions["ERL"].algorithm
    assert isinstance(whole, ExperientialSettings)
    alone, reading = (conditions[key] for key in ("RLVR", "RLVR that reads feedback"))
    assert alone.algorithm.group_size == 3 * whole.group_size  # attempt, reflection, attempt
    assert reading.algorithm.group_size * 2 == alone.algorithm.group_size
    assert isinstance(reading.algorithm, SecondChanceSettings)
    for config in (alone, reading):
        credit = config.algorithm
        assert (credit.prompts, credit.mini_batches) == (whole.prompts, whole.mini_batches)
        assert (credit.objective, credit.advantage) == (whole.objective, whole.advantage)


@EVERY_WORLD
def test_attempts_have_all_turns_that_their_episodes_have(name: str) -> None:
    recipe = find_recipe(f"{name}-tiny")()
    assert isinstance(recipe.algorithm, ExperientialSettings)
    for config in conditions_of(name).values():
        attempts = 2 if isinstance(config.algorithm, SecondChanceSettings) else 1
        assert config.algorithm.max_turns >= attempts * recipe.algorithm.max_turns


def test_the_studies_claim_the_same_and_have_five_seeds() -> None:
    def without_world(study: Study) -> tuple[Any, ...]:
        names = [condition.name for condition in study.conditions]
        return names, study.claims, study.seeds, study.measures, study.panels

    lake, rooms, questions = (STUDIES[name](Numerics.FP8) for name in WORLDS)
    assert without_world(lake) == without_world(rooms) == without_world(questions)
    assert len(lake.seeds) == 5


@pytest.mark.slow
def test_runs_of_frozen_lake_are_those_on_record() -> None:
    study = STUDIES["erl-frozenlake"](Numerics.FP8)
    found = find_records(RECORDS)
    missing = [
        (condition.name, seed)
        for condition in study.conditions
        for seed in study.seeds
        if identity(condition.run(seed)) not in found
    ]
    assert missing == []
