"""Experiential RL on Sokoban: rooms of sixteen cells and walls, won in two moves at most."""

from steadyrl.lab.experiential import experiential_study
from steadyrl.lab.study import Study
from steadyrl.lab.worlds.experiential_recipes import erl_sokoban_tiny
from steadyrl.policies.numerics import Numerics


def erl_sokoban(numerics: Numerics) -> Study:
    """Nine conditions of the recipe `erl-sokoban-tiny`."""
    return experiential_study("sokoban", "Sokoban", erl_sokoban_tiny(), numerics)
