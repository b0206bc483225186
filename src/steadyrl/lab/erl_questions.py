"""Experiential RL on multi-hop questions, in words that nobody explains.

An answer takes two searches, each for the relation that a word means. One guess in twelve is right,
so that the twelve attempts of reinforcement alone find one answer between them to begin with.
"""

from steadyrl.lab.experiential import experiential_study
from steadyrl.lab.study import Study
from steadyrl.lab.worlds.experiential_recipes import erl_questions_tiny
from steadyrl.policies.numerics import Numerics


def erl_questions(numerics: Numerics) -> Study:
    """Nine conditions of the recipe `erl-questions-tiny`."""
    recipe = erl_questions_tiny()
    return experiential_study("questions", "multi-hop questions", recipe, numerics)
