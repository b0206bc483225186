"""Reinforcement alone in the worlds of `experiential_recipes`, with no fewer responses.

    steadyrl train erl-frozenlake-tiny --out runs/lake
    steadyrl train rlvr-frozenlake-tiny --out runs/lake-rlvr
    steadyrl report runs/lake --beside runs/lake-rlvr

Cold start, tasks and optimizer steps are those of the recipe of Experiential RL. A prompt has three
attempts for each of its first attempts, since an episode there has up to three responses: attempt,
reflection, attempt.
"""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import CreditSettings, PolicyGradientSettings
from steadyrl.lab.worlds.experiential_recipes import (
    erl_frozenlake_tiny,
    erl_questions_tiny,
    erl_sokoban_tiny,
)
from steadyrl.run.config import RunConfig


def rlvr_frozenlake_tiny() -> RunConfig:
    """Reinforcement alone on the lake of erl-frozenlake-tiny, to compare with it."""
    return _without_reflection(erl_frozenlake_tiny())


def rlvr_sokoban_tiny() -> RunConfig:
    """Reinforcement alone in the rooms of erl-sokoban-tiny, to compare with it."""
    return _without_reflection(erl_sokoban_tiny())


def rlvr_questions_tiny() -> RunConfig:
    """Reinforcement alone on the questions of erl-questions-tiny, to compare with it."""
    return _without_reflection(erl_questions_tiny())


def attempts_alone(erl: ExperientialSettings) -> PolicyGradientSettings:
    """Policy gradient on as many attempts as Experiential RL may sample responses.

    Episodes have the turns of two attempts, so half as many of them can have a second chance.
    """
    shared = {name: getattr(erl, name) for name in CreditSettings.model_fields if name != "name"}
    own = {"group_size": 3 * erl.group_size, "max_turns": 2 * erl.max_turns}
    return PolicyGradientSettings.model_validate(shared | own)


def _without_reflection(recipe: RunConfig) -> RunConfig:
    assert isinstance(recipe.algorithm, ExperientialSettings)
    alone = attempts_alone(recipe.algorithm)
    return RunConfig.model_validate(recipe.model_dump() | {"algorithm": alone.model_dump()})
