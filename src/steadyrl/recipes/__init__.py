"""Recipes: functions that return a `RunConfig`, one file per experiment."""

from collections.abc import Callable

from steadyrl.base.errors import UserError, call_user_code
from steadyrl.base.plugins import registered
from steadyrl.base.text import nearest_or_all
from steadyrl.recipes.arithmetic import arithmetic_demo
from steadyrl.recipes.experiential import erl_frozenlake, erl_hotpotqa, erl_sokoban
from steadyrl.recipes.papers import (
    minirl_30b_n1,
    minirl_30b_n2,
    minirl_30b_n4,
    minirl_30b_n8,
    minirl_next,
)
from steadyrl.recipes.pretrained import minirl
from steadyrl.recipes.smollm2 import erl_smollm2, smollm2
from steadyrl.run.config import RunConfig

Recipe = Callable[[], RunConfig]

GROUP = "steadyrl.recipes"
"""Entry point group in which packages register recipes: name and function."""

RECIPES: dict[str, Recipe] = {
    "demo": arithmetic_demo,
    "minirl": minirl,
    "minirl-30b-n1": minirl_30b_n1,
    "minirl-30b-n2": minirl_30b_n2,
    "minirl-30b-n4": minirl_30b_n4,
    "minirl-30b-n8": minirl_30b_n8,
    "minirl-next": minirl_next,
    "smollm2": smollm2,
    "erl-smollm2": erl_smollm2,
    "erl-frozenlake": erl_frozenlake,
    "erl-sokoban": erl_sokoban,
    "erl-hotpotqa": erl_hotpotqa,
}
"""Built-in recipes by their command-line names."""


def recipe_names() -> list[str]:
    """Names of the built-in recipes and of those registered by other packages."""
    return [*RECIPES, *sorted({*registered(GROUP)} - {*RECIPES})]


def find_recipe(name: str) -> Recipe:
    """The recipe `name`.

    Raises:
        UserError: the recipe does not exist, or cannot be loaded.
    """
    if name in RECIPES:
        return RECIPES[name]
    if (point := registered(GROUP).get(name)) is None:
        hint = nearest_or_all(name, recipe_names(), "The recipes are")
        raise UserError(f"There is no recipe {name!r}. {hint}")
    return call_user_code(
        point.load,
        failure=f"The recipe {name!r} is {point.value} and cannot be loaded",
        remedy=f"Correct the package that registers it in the group {GROUP}",
    )
