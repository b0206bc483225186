"""Pieces of Markdown."""

from collections.abc import Iterable, Sequence
from textwrap import fill

WIDTH = 120

GENERATED = "<!-- Written by `make docs`. Do not edit. -->"


def page(lines: Iterable[str]) -> str:
    """A generated page of `lines`."""
    return "\n".join([GENERATED, *lines]) + "\n"


def paragraph(text: str, indent: str = "") -> str:
    """`text` in lines of at most `WIDTH`, all but the first indented."""
    return fill(
        " ".join(text.split()),
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def slug(heading: str) -> str:
    """The anchor that GitHub gives the first heading of this text on a page."""
    kept = [c for c in heading.strip().lower() if c.isalnum() or c in " -_"]
    return "".join(kept).replace(" ", "-")
