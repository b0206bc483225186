"""Experiments, one file each: a function that returns a `RunConfig`."""

from collections.abc import Callable

from steadyrl.recipes.arithmetic import arithmetic_demo
from steadyrl.recipes.experiential import erl_frozenlake, erl_hotpotqa, erl_sokoban
from steadyrl.recipes.experiential_tiny import (
    erl_frozenlake_tiny,
    erl_questions_tiny,
    erl_sokoban_tiny,
)
from steadyrl.recipes.pretrained import minirl
from steadyrl.recipes.rlvr_tiny import (
    rlvr_frozenlake_tiny,
    rlvr_questions_tiny,
    rlvr_sokoban_tiny,
)
from steadyrl.recipes.smollm2 import smollm2
from steadyrl.run.config import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "demo": arithmetic_demo,
    "minirl": minirl,
    "smollm2": smollm2,
    "erl-frozenlake-tiny": erl_frozenlake_tiny,
    "erl-sokoban-tiny": erl_sokoban_tiny,
    "erl-questions-tiny": erl_questions_tiny,
    "rlvr-frozenlake-tiny": rlvr_frozenlake_tiny,
    "rlvr-sokoban-tiny": rlvr_sokoban_tiny,
    "rlvr-questions-tiny": rlvr_questions_tiny,
    "erl-frozenlake": erl_frozenlake,
    "erl-sokoban": erl_sokoban,
    "erl-hotpotqa": erl_hotpotqa,
}
"""Every recipe by the name that the command line knows it by."""
