"""Consoles for any terminal, log or pipe."""

import sys

from rich.console import Console


class PlainConsole(Console):
    """A console that leaves it to the command what a closed output means."""

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError."""
        raise BrokenPipeError


def make_console(*, stderr: bool = False) -> Console:
    """A console on the standard output, or on the standard error.

    Characters that the stream's encoding lacks are replaced. Only a terminal is redrawn, whatever
    FORCE_COLOR says.
    """
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return PlainConsole(
        stderr=stderr, highlight=False, emoji=False, force_terminal=stream.isatty() or False
    )
