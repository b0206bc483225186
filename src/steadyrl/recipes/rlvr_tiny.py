"""Reinforcement alone in the worlds of `experiential_tiny`, with no fewer responses.

    steadyrl train erl-frozenlake-tiny --out runs/lake
    steadyrl train rlvr-frozenlake-tiny --out runs/lake-rlvr
    steadyrl report runs/lake --beside runs/lake-rlvr

Cold start, tasks and optimiser steps are those of the recipe of Experiential RL. A prompt has three
attempts for each of its attempts, which is what that may sample: attempt, reflection, attempt.
"""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.recipes.experiential_tiny import (
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
    """As many attempts as Experiential RL may sample responses, learned from in the same way.

    They have the turns of two attempts, so that a second chance can be had with half of them.
    """
    shared = {name: getattr(erl, name) for name in PolicyGradientSettings.model_fields}
    own = {"group_size": 3 * erl.group_size, "max_turns": 2 * erl.max_turns}
    return PolicyGradientSettings.model_validate(shared | own)


def _without_reflection(recipe: RunConfig) -> RunConfig:
    assert recipe.erl is not None
    alone = {"erl": None, "policy_gradient": attempts_alone(recipe.erl).model_dump()}
    return RunConfig.model_validate(recipe.model_dump() | alone)
