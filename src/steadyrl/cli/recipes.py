"""`steadyrl recipes`."""

from inspect import getdoc
from pathlib import Path
from textwrap import fill
from typing import Annotated

from rich.console import Console

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.recipes import find_recipe, recipe_names
from steadyrl.run.config import RunConfig, from_yaml, to_yaml

COLUMN = 24
"""Column of the recipes' descriptions."""


class RecipesOptions(Settings):
    """List the recipes, or print one as YAML."""

    name: Annotated[str | None, Positional()] = None
    """The recipe to print."""


def recipes_command(arguments: list[str], console: Console) -> None:
    """Lists the recipes, or prints one as YAML."""
    options = read_options(RecipesOptions, arguments, program="steadyrl recipes")
    if options.name is not None:
        console.print(to_yaml(described_run(options.name)), markup=False, end="", soft_wrap=True)
        return
    for name in recipe_names():
        about = " ".join((getdoc(find_recipe(name)) or "").partition("\n\n")[0].split())
        line = fill(
            f"{name:<{COLUMN}}{about}",
            console.width,
            subsequent_indent=" " * COLUMN,
            break_on_hyphens=False,
        )
        console.print(line, markup=False, soft_wrap=True)


def described_run(name: str) -> RunConfig:
    """The recipe `name`, or the configuration in the YAML file `name`.

    Raises:
        UserError: there is neither.
    """
    if name.endswith((".yaml", ".yml")):
        return from_yaml(Path(name))
    return find_recipe(name)()
