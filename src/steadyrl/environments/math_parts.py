r"""The parts of an answer: sides of an equation; entries of a tuple, an interval, a set, a list."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\[{}]|\\[A-Za-z]+|\\.|[()\[\]{},;=]|[^\\()\[\]{},;=]+", re.DOTALL)
_OPENED = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
_CLOSED = frozenset({")", "]", "}", r"\}"})
_CONNECTIVE = re.compile(
    r",?\s*(?:\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*"
)
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_BOTH_SIGNS = re.compile(r"\\pm(?![A-Za-z])")
_MAX_PARTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an answer consists of.

    Example:
        Parts(shape="()", parts=("1", "2"))
    """

    shape: str
    """The brackets around them; empty for a list without."""

    parts: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether their order matters."""
        return self.shape not in ("", "{}")

    def is_like(self, other: "Parts") -> bool:
        """Whether both are of one form. A list without brackets is like a set and like a tuple."""
        shapes = {self.shape, other.shape}
        return len(shapes) == 1 or shapes in ({"", "{}"}, {"", "()"})


def split_at(text: str, separators: str) -> list[str]:
    """`text` cut at each of `separators` that stands outside brackets of every kind."""
    pieces, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in _OPENED) - (token in _CLOSED)
        if depth == 0 and token in separators and len(token) == 1:
            pieces.append("")
        else:
            pieces[-1] += token
    return [piece.strip() for piece in pieces]


def sides(text: str) -> list[str]:
    """The sides of an equation or a chain of them; `[text]` for lists and for what is none."""
    if r"\begin" in text or len(split_at(_CONNECTIVE.sub(" , ", text), ",;")) > 1:
        return [text]
    return split_at(text, "=")


def with_both_signs(text: str) -> str:
    r"""`text` with two entries in the place of each that has one \pm: 2 \pm i is 2 + i, 2 - i."""
    shape, inner = _split_brackets(text)
    if shape == "{}":
        return rf"\{{{with_both_signs(inner)}\}}"
    entries: list[str] = []
    for entry in split_at(text, ",;") if r"\pm" in text else [text]:
        found = len(_BOTH_SIGNS.findall(entry)) == 1
        entries += [_BOTH_SIGNS.sub(sign, entry) for sign in "+-"] if found else [entry]
    return ", ".join(entries) if len(entries) > 1 and r"\pm" in text else text


def readings(text: str) -> list[Parts]:
    """The ways to read `text` as several parts; none where it is one. 1,234 in a list has two."""
    text = text.strip()
    shape, inner = _split_brackets(text)
    if not shape:
        inner = _CONNECTIVE.sub(" , ", inner)
    spellings = (
        {inner}
        if shape in ("()", "[]", "(]", "[)")
        else {inner, _THOUSANDS.sub(_join_thousands, inner)}
    )
    found = []
    for spelling in sorted(spellings):
        parts = split_at(spelling, ",;")
        if not 1 < len(parts) <= _MAX_PARTS and shape != "{}":
            continue
        found.append(Parts(shape=shape, parts=tuple(parts)))
    return [parts for parts in found if all(parts.parts)]


def _split_brackets(text: str) -> tuple[str, str]:
    """The brackets around all of `text`, and what they hold; "" where there are none."""
    start = r"\{" if text.startswith(r"\{") else text[:1]
    end = r"\}" if text.endswith(r"\}") else text[-1:]
    if start not in ("(", "[", r"\{") or end not in (")", "]", r"\}") or len(text) < 3:
        return "", text
    depth = 0
    tokens = _TOKEN.findall(text)
    for place, token in enumerate(tokens):
        depth += (token in _OPENED) - (token in _CLOSED)
        if depth == 0 and place < len(tokens) - 1:
            return "", text
    shape = start.removeprefix("\\") + end.removeprefix("\\")
    return (
        (shape, text[len(start) : -len(end)])
        if shape in ("()", "[]", "(]", "[)", "{}")
        else ("", text)
    )


def _join_thousands(match: re.Match[str]) -> str:
    return match[0].replace(",", "")
