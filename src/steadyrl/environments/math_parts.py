r"""Parts of an answer: sides of equations; entries of tuples, intervals, sets and lists."""

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
    """Parts of an answer.

    Example:
        Parts(shape="()", parts=("1", "2"))
    """

    shape: str
    """Enclosing brackets; empty for a list without brackets."""

    parts: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether the order of the parts matters."""
        return self.shape not in ("", "{}")

    def is_like(self, other: "Parts") -> bool:
        """Whether both have the same form. A list without brackets matches sets and tuples."""
        shapes = {self.shape, other.shape}
        return len(shapes) == 1 or shapes in ({"", "{}"}, {"", "()"})


def split_at(text: str, separators: str) -> list[str]:
    """`text` split at the `separators` outside all brackets."""
    pieces, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in _OPENED) - (token in _CLOSED)
        if depth == 0 and token in separators and len(token) == 1:
            pieces.append("")
        else:
            pieces[-1] += token
    return [piece.strip() for piece in pieces]


def sides(text: str) -> list[str]:
    """Sides of an equation or chain of equations; `[text]` for lists and anything else."""
    if r"\begin" in text or len(split_at(_CONNECTIVE.sub(" , ", text), ",;")) > 1:
        return [text]
    return split_at(text, "=")


def with_both_signs(text: str) -> str:
    r"""`text` with each entry with one \pm split in two: 2 \pm i becomes 2 + i, 2 - i"""
    shape, inner = _split_brackets(text)
    if shape == "{}":
        return rf"\{{{with_both_signs(inner)}\}}"
    entries: list[str] = []
    for entry in split_at(text, ",;") if r"\pm" in text else [text]:
        found = len(_BOTH_SIGNS.findall(entry)) == 1
        entries += [_BOTH_SIGNS.sub(sign, entry) for sign in "+-"] if found else [entry]
    return ", ".join(entries) if len(entries) > 1 and r"\pm" in text else text


def readings(text: str) -> list[Parts]:
    """Ways to read `text` as several parts; empty if it is one value. 1,234 in a list has two."""
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
    """Brackets around all of `text` and their content; no brackets: ""."""
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
