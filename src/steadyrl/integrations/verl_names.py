"""verl's names, imported after its version was checked."""

from importlib.metadata import PackageNotFoundError, version

from steadyrl.base.errors import UserError

SUPPORTED = "0.9"
"""Minor version of verl whose losses and settings these were written and tested against."""


def check_version(installed: str | None) -> None:
    """Checks the installed version of verl; None: it is not installed.

    Raises:
        UserError: it is not supported.
    """
    if installed is None or ".".join(installed.split(".")[:2]) != SUPPORTED:
        raise UserError(
            f"steadyrl.integrations.verl supports verl {SUPPORTED}, got {installed or 'none'}. "
            f"Install it: pip install 'verl=={SUPPORTED}.*'."
        )


def installed_version() -> str | None:
    """The installed version of verl; None: it is not installed."""
    try:
        return version("verl")
    except PackageNotFoundError:
        return None


check_version(installed_version())

from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss  # noqa: E402

__all__ = ["agg_loss", "check_version", "register_policy_loss"]
