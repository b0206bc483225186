"""`steadyrl recipes`."""

from dataclasses import dataclass
from difflib import get_close_matches
from inspect import getdoc
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.cli.options import read_options
from steadyrl.recipes import RECIPES
from steadyrl.run.config import RunConfig, from_yaml, to_yaml


@dataclass(frozen=True)
class RecipesOptions:
    """List the recipes, or print one as YAML."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """The recipe to print."""


def recipes_command(arguments: list[str], console: Console) -> None:
    """Lists the recipes, or prints one as YAML."""
    options = read_options(RecipesOptions, arguments, program="steadyrl recipes")
    if options.name is not None:
        console.print(to_yaml(find_recipe(options.name)), markup=False, end="", soft_wrap=True)
        return
    for name, recipe in RECIPES.items():
        line = f"{name:<24}{(getdoc(recipe) or '').splitlines()[0]}"
        console.print(line, markup=False, soft_wrap=True)


def find_recipe(name: str) -> RunConfig:
    """The recipe `name`, or the configuration in the YAML file `name`.

    Raises:
        UserError: there is neither.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith((".yaml", ".yml")):
        return from_yaml(Path(name))
    close = get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"There is no recipe {name!r}.{hint} 'steadyrl recipes' lists them; a YAML file works too."
    )
