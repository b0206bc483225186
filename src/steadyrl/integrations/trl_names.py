"""TRL's names, imported after its version was checked."""

from importlib.metadata import PackageNotFoundError, version

from steadyrl.base.errors import UserError

SUPPORTED = ("1.14", "1.15", "1.16")
"""Minor versions of TRL whose hooks the trainer was tested against, the oldest first."""


def check_version(installed: str | None) -> None:
    """Checks the installed version of TRL; None: it is not installed.

    Raises:
        UserError: it is not supported.
    """
    if installed is None or ".".join(installed.split(".")[:2]) not in SUPPORTED:
        raise UserError(
            f"steadyrl.integrations.trl supports TRL {SUPPORTED[0]} to {SUPPORTED[-1]}, got "
            f"{installed or 'none'}. Install one of them: pip install 'steadyrl[trl]'."
        )


def installed_version() -> str | None:
    """The installed version of TRL; None: it is not installed."""
    try:
        return version("trl")
    except PackageNotFoundError:
        return None


check_version(installed_version())

from accelerate.utils import gather_object  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

__all__ = ["GRPOConfig", "GRPOTrainer", "check_version", "gather_object"]
