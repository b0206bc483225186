"""Experiential RL on FrozenLake: lakes of nine cells, whose goal is two moves away at most."""

from steadyrl.lab.experiential import experiential_study
from steadyrl.lab.study import Study
from steadyrl.lab.worlds.experiential_recipes import erl_frozenlake_tiny
from steadyrl.policies.numerics import Numerics


def erl_frozen_lake(numerics: Numerics) -> Study:
    """Nine conditions of the recipe `erl-frozenlake-tiny`."""
    return experiential_study("frozenlake", "FrozenLake", erl_frozenlake_tiny(), numerics)
