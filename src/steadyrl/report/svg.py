"""A matplotlib figure as SVG that can stand inside a page and takes its colours from it."""

import html
import io
import re
from enum import StrEnum

import matplotlib
from matplotlib.figure import Figure


class Ink(StrEnum):
    """Colours to draw with. Each stands for the page's style variable of the same name."""

    TEXT = "#010203"
    GRID = "#010204"
    LINE = "#010205"
    WARNING = "#010206"
    OTHER = "#010207"


def inline_svg(figure: Figure, key: str, label: str) -> str:
    """`figure` as an `<svg>` element that fills the width it is given.

    `key` keeps the ids inside apart from those of other figures: one key, one figure of a page.
    `label` is read out in place of the picture.
    """
    buffer = io.StringIO()
    unknown = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": key, "path.simplify_threshold": 0.4}
    ):
        figure.savefig(buffer, format="svg", transparent=True, metadata=unknown)
    width, height = (inches * 72 for inches in figure.get_size_inches())
    opening = (
        f'<svg role="img" aria-label="{html.escape(label)}" viewBox="0 0 {width:.0f} {height:.0f}">'
    )
    return opening + _drawing(buffer.getvalue()) + "</svg>"


def _drawing(document: str) -> str:
    """What a figure's SVG document draws: without prolog, metadata, unused ids and spare digits."""
    body = document[document.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    referenced = set(re.findall(r"#([\w.-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in referenced else "", body)
    body = re.sub(r'( d="| x="| y=")([^"]*)', lambda m: m[1] + _fewer_digits(m[2]), body)
    for ink in Ink:
        body = body.replace(ink.value, f"var(--{ink.name.lower()})")
    return re.sub(r">\s+<", "><", body)


def _fewer_digits(coordinates: str) -> str:
    tenths = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.1f}", coordinates)
    return " ".join(tenths.split())
