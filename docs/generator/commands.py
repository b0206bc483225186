"""The page of the command line: what every command says of itself under --help."""

import contextlib
import io
import os
from unittest.mock import patch

from docs.generator.markdown import page, paragraph

from steadyrl.cli.main import command_names, main

ABOUT = """
Every setting of a run is an option of `steadyrl train RECIPE` too, under its name in the
[configuration](configuration.md).
"""


def commands_page() -> str:
    """The usage, and a section for each command."""
    lines = ["# Command line", "", *_block(_help()), "", paragraph(ABOUT)]
    for name in command_names():
        lines += ["", f"## steadyrl {name}", "", *_block(_help(name))]
    return page(lines)


def _help(*command: str) -> str:
    """What the command prints under --help, in 100 columns and without colors."""
    output = io.StringIO()
    terminal = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    with (
        patch.dict(os.environ, terminal),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    return "\n".join([line.rstrip() for line in output.getvalue().strip().splitlines()])


def _block(text: str) -> list[str]:
    return ["```", text, "```"]
