"""Experiential RL on Sokoban: rooms of sixteen cells and walls, won in two moves at most."""

from steadyrl.policies.numerics import Numerics
from steadyrl.recipes.experiential_tiny import erl_sokoban_tiny
from steadyrl.studies.experiential import experiential_study
from steadyrl.studies.study import Study


def erl_sokoban(numerics: Numerics) -> Study:
    """Nine conditions of the recipe `erl-sokoban-tiny`."""
    return experiential_study("sokoban", "Sokoban", erl_sokoban_tiny(), numerics)
