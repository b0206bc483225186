"""A matplotlib figure as SVG that stands inside a page and takes its colors from it."""

import io
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure


class Ink(StrEnum):
    """Colors to draw with in a report. Each stands for the page's variable of the same name."""

    TEXT = "#010203"
    GRID = "#010204"
    LINE = "#010205"
    WARNING = "#010206"
    OTHER = "#010207"


def inline_svg(figure: Figure, key: str, label: str) -> Markup:
    """`figure` as an `<svg>` element that fills the width it is given.

    It keeps what is drawn: no metadata, fonts, unused ids or spare digits. `label` is read out in
    place of the picture.
    """
    buffer = io.StringIO()
    unknown: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": key}):  # keeps ids apart from those of other drawings
        figure.savefig(buffer, format="svg", transparent=True, metadata=unknown)
    source = ElementTree.fromstring(buffer.getvalue())
    source.attrib = {"role": "img", "aria-label": label, "viewBox": source.attrib["viewBox"]}
    source.remove(source[0])  # the style sheet, which would hold for the whole page
    for element in source.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _compact(name, value)
            for name, value in element.attrib.items()
            if not (name == "id" and element.tag == "g") and not value.startswith("rotate(-0 ")
        }
        element.text, element.tail = (element.text or "").strip(), None
    svg = ElementTree.tostring(source, encoding="unicode")
    for ink in Ink:
        svg = svg.replace(ink.value, f"var(--{ink.name.lower()})")
    return Markup(svg)


def _compact(name: str, value: str) -> str:
    """An attribute with one digit after the point in coordinates, and without fonts."""
    if name == "style":
        return ";".join(part for part in value.split("; ") if not part.startswith("font-family"))
    if name in ("d", "x", "y", "width", "height"):
        return " ".join(w if w.isalpha() else f"{float(w):.1f}" for w in value.split())
    return value
