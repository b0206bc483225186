"""Versions that the driver and its actors must share, since they exchange pickled objects."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

from steadyrl.base.errors import UserError

PACKAGES = ("steadyrl", "ray", "torch", "transformers")


def installed_versions() -> dict[str, str]:
    """Versions of Python and of packages in this process."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def check_versions(driver: Mapping[str, str], here: Mapping[str, str], node: str) -> None:
    """Checks that an actor has the versions of its driver.

    Raises:
        UserError: it has not.
    """
    differing = [name for name in driver if here.get(name) != driver[name]]
    if differing:
        told = ", ".join(f"{name} {here.get(name)} (here {driver[name]})" for name in differing)
        raise UserError(
            f"The Ray node {node} has other versions than this machine: {told}. Install the same "
            "versions on all nodes and start the cluster again."
        )
