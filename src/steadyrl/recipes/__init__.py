"""Experiments, one file each: a function that returns a `RunConfig`."""

from collections.abc import Callable

from steadyrl.recipes.arithmetic import arithmetic_demo
from steadyrl.run.config import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "demo": arithmetic_demo,
}
"""Every recipe by the name that the command line knows it by."""
