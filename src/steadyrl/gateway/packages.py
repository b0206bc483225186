"""Packages of the HTTP server, which is an extra."""

from steadyrl.base.extras import require_extra


def require_server() -> None:
    """Returns if the packages of the server are installed.

    Raises:
        UserError: they are not; the message names the pip command.
    """
    for module in ("starlette", "uvicorn"):
        require_extra(module, "serve")
