r"""Conversion of LaTeX to plain text: \text{Paris} becomes Paris."""

import re
import unicodedata

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textup|textnormal|emph|underline|mathrm|mathbf"
    r"|mathit|mathsf|mathtt|bm|boldsymbol|mbox|hbox|fbox|boxed|operatorname\*?)\s*\{"
    r"|\{\s*\\(?:rm|bf|it|sf|tt|em)(?![A-Za-z])\s*"
)
_GROUP = re.compile(rf"(?P<wrapper>{_WRAPPER.pattern})|{_BRACE.pattern}", re.DOTALL)
_MAX_WRAPPERS = 10
_SPACE = re.compile(r"\\[,;: ]|\\q?quad(?![A-Za-z])|(?<!\\)~")
_NO_SPACE = re.compile(r"\\!|\\displaystyle(?![A-Za-z])")
_ACCENT = re.compile(r"\\(['`^\"~])\s*(?:\{([A-Za-z])\}|([A-Za-z]))")
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303"}
_ESCAPED = re.compile(r"\\([&%$#_{}'\"])")


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one opened before `start`; None if there is none."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return brace.start()
    return None


def unwrap(text: str) -> str:
    r"""`text` without enclosing font commands: \text{No} becomes No."""
    for _ in range(_MAX_WRAPPERS):
        text = text.strip()
        wrapper = _WRAPPER.match(text)
        if wrapper is None or closing_brace(text, wrapper.end()) != len(text) - 1:
            break
        text = text[wrapper.end() : -1]
    return text


def plain_text(text: str) -> str:
    r"""`text` as plain characters, without LaTeX fonts, spaces, accents and escapes.

    For answers in words: "\text{New}\,\mathbf{York}" is "New York".
    """
    text = text.strip()
    for end in ("$$", "$"):
        if len(text) > 2 * len(end) and text.startswith(end) and text.endswith(end):
            text = text[len(end) : -len(end)]
    if "\\" not in text:
        return text.strip()
    text = _SPACE.sub(" ", _NO_SPACE.sub("", strip_wrappers(text)))
    text = _ESCAPED.sub(r"\1", _ACCENT.sub(_accent, text))
    return unicodedata.normalize("NFC", " ".join(text.split()))


def strip_wrappers(text: str) -> str:
    """`text` with each font or box command replaced by its content."""
    pieces: list[str] = []
    opened: list[int | None] = []
    start = 0
    for group in _GROUP.finditer(text):
        pieces += [text[start : group.start()], group.group()]
        start = group.end()
        if group["wrapper"] or group.group() == "{":
            opened.append(len(pieces) - 1 if group["wrapper"] else None)
        elif group.group() == "}" and opened:
            wrapper = opened.pop()
            if wrapper is not None:
                pieces[wrapper] = pieces[-1] = ""
    return "".join(pieces) + text[start:]


def _accent(match: re.Match[str]) -> str:
    return (match[2] or match[3]) + _ACCENTS[match[1]]
