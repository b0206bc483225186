"""Checks for optional dependencies."""

from importlib.util import find_spec

from steadyrl.base.errors import UserError


def require_extra(module: str, extra: str) -> None:
    """Checks that the optional dependency `module` is installed.

    Raises:
        UserError: `module` is not installed; the message names the pip command.
    """
    if find_spec(module) is None:
        raise UserError(
            f"The Python module {module!r} is not installed. Run: pip install 'steadyrl[{extra}]'"
        )
