"""Experiments, one file each: a function that returns a `RunConfig`."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from steadyrl.base.errors import UserError, call_user_code
from steadyrl.base.text import nearest_or_all
from steadyrl.recipes.arithmetic import arithmetic_demo
from steadyrl.recipes.experiential import erl_frozenlake, erl_hotpotqa, erl_sokoban
from steadyrl.recipes.pretrained import minirl
from steadyrl.recipes.smollm2 import erl_smollm2, smollm2
from steadyrl.run.config import RunConfig

Recipe = Callable[[], RunConfig]

GROUP = "steadyrl.recipes"
"""Entry points under which packages add recipes: a name, and its function."""

RECIPES: dict[str, Recipe] = {
    "demo": arithmetic_demo,
    "minirl": minirl,
    "smollm2": smollm2,
    "erl-smollm2": erl_smollm2,
    "erl-frozenlake": erl_frozenlake,
    "erl-sokoban": erl_sokoban,
    "erl-hotpotqa": erl_hotpotqa,
}
"""The built-in recipes by the name that the command line knows them by."""


def recipe_names() -> list[str]:
    """Names of the built-in recipes and of those that other packages add."""
    return [*RECIPES, *sorted({*_plugin_recipes()} - {*RECIPES})]


def find_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    if name in RECIPES:
        return RECIPES[name]
    if (point := _plugin_recipes().get(name)) is None:
        hint = nearest_or_all(name, recipe_names(), "The recipes are")
        raise UserError(f"There is no recipe {name!r}. {hint}")
    return call_user_code(
        point.load,
        failure=f"The recipe {name!r} is {point.value} and cannot be loaded",
        remedy=f"Correct the package that registers it in the group {GROUP}",
    )


def _plugin_recipes() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
