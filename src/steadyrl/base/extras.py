"""Optional packages: imported where they are used, asked for by name when they are missing."""

from importlib.util import find_spec

from steadyrl.base.errors import UserError


def require_extra(module: str, extra: str) -> None:
    """Returns when `module` can be imported.

    Raises:
        UserError: it is not installed; the message names the pip command.
    """
    if find_spec(module) is None:
        raise UserError(
            f"The Python module {module!r} is not installed. Run: pip install 'steadyrl[{extra}]'"
        )
