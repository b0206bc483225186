r"""Normalization of answers to one notation: LaTeX in ASCII, without formatting.

$1\,234.$      ->  1 234           10³           ->  10^{3}
\dfrac12       ->  \frac12         1.5e-7        ->  1.5\times 10^{-7}
\mathrm{5 cm}  ->  5 cm            sqrt(2)       ->  \sqrt{2}
"""

import re
from collections.abc import Callable

from steadyrl.environments.answer_text import closing_brace, unwrap

_CHARACTERS = {
    **dict.fromkeys([0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212, 0xFE63, 0xFF0D], "-"),
    **dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys([0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF], ""),
    **{0xFF10 + digit: str(digit) for digit in range(10)},
    0xB0: r"^\circ ",
    0xB1: r"\pm ",
    0xB7: r"\cdot ",
    0xBC: r"\frac{1}{4}",
    0xBD: r"\frac{1}{2}",
    0xBE: r"\frac{3}{4}",
    0xD7: r"\times ",
    0xF7: "/",
    0x3C0: r"\pi ",
    0x2019: "'",
    0x2205: r"\emptyset ",
    0x2208: r"\in ",
    0x221A: r"\sqrt ",
    0x221E: r"\infty ",
    0x2229: r"\cap ",
    0x222A: r"\cup ",
    0x2248: r"\approx ",
    0x2260: r"\ne ",
    0x2264: r"\le ",
    0x2265: r"\ge ",
    0x22C5: r"\cdot ",
    0x2A7D: r"\le ",
    0x2A7E: r"\ge ",
    0xFF05: "%",
    0xFF0C: ",",
}
"""LaTeX or ASCII replacements of Unicode dashes, spaces, digits and signs."""

_RAISED = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789")
_ROOT = re.compile(r"\u221a\s*(\d+(?:\.\d+)?)")
_SUPERSCRIPT = re.compile("[⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹]+")

_NAMES = {
    "leq": "le",
    "geq": "ge",
    "leqslant": "le",
    "geqslant": "ge",
    "lt": "<",
    "gt": ">",
    "neq": "ne",
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "thickapprox": "approx",
    "degree": "^\\circ",
    "varnothing": "emptyset",
    "bar": "overline",
    "ast": "*",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
}
_FUNCTIONS = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_PLAIN = {"lt", "gt", "degree", "ast", "lbrack", "rbrack"}
_REWRITES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\\(?:displaystyle|textstyle|left|right|[bB]igg?[lr]?|limits)(?![A-Za-z])"), ""),
    (
        re.compile(r"\\(" + "|".join(_NAMES) + r")(?![A-Za-z])"),
        lambda m: ("" if m[1] in _PLAIN else "\\") + _NAMES[m[1]],
    ),
    (
        re.compile(
            r"\\math(?:rm|bf|it|sf|tt)\b|\\text(?:bf|it|rm|sf|tt|normal|up)\b|\\mbox\b"
            r"|\\hbox\b|\\operatorname\*?(?=\s*\{)"
        ),
        r"\\text",
    ),
    (re.compile(r"\\text\s*\{\s*([\d.,+\-eEi]|\d[\d.,]*)\s*\}"), r"\1"),
    (re.compile(r"\\!"), ""),
    (re.compile(r"^\s*~\s*(?=[\d.\\$-])"), r"\\approx "),
    (
        re.compile(r"(?<!\\)\\[,;:> ]|\\(?:q?quad|thinspace|enspace|space)(?![A-Za-z])|(?<!\\)~"),
        " ",
    ),
    (
        re.compile(r"(?<=\d)\s*(?:\\text\s*\{)?\s*(thousand|[mbtr]+illion)\b\s*\}?"),
        lambda m: rf"\times 10^{{{_SCALES[m[1]]}}}" if m[1] in _SCALES else m[0],
    ),
    (re.compile(r"(?<=\d)\s*\{,\}\s*(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\^\s*\{\s*\\circ\s*\}"), r"^\\circ "),
    (re.compile(r"\\not\s*=|!=|/=|=/="), r"\\ne "),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\*\*"), "^"),
    (
        re.compile(r"(?<![A-Za-z0-9_.\\}])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?![A-Za-z0-9.])"),
        lambda m: rf"{m[1]}\times 10^{{{int(m[2])}}}",
    ),
    (re.compile(r"(?<=[\d.])\s*[xX*]\s*10\s*\^"), r"\\times 10^"),
    (re.compile(r"(?<=\^)\(\s*([+-]?\d+)\s*\)"), r"{\1}"),
    (re.compile(r"\\?\bsqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (
        re.compile(
            r"(?<![A-Za-z\\])(?:(a(?:rc)?(?:sin|cos|tan)|(?:sin|cos|tan)h?|cot|sec|csc|exp|log|ln)"
            r"(?=\s*[({^_])|(sin|cos|log|ln)(?=\s+(?:\\|\d|[A-Za-z](?![A-Za-z]))))"
        ),
        lambda m: rf"\{_FUNCTIONS.get(m[0], m[0])} ",
    ),
    (
        re.compile(r"(?<![A-Za-z\\])(pi|infinity)(?![A-Za-z])"),
        lambda m: "\\pi " if m[1] == "pi" else "\\infty ",
    ),
]
_FRAMES = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_ENDING = re.compile(r"(?<![.,;:\\\s])(?:(?!\.\.)\\?[.,;:]|\s)+$")


def normalize_notation(text: str) -> str:
    """`text` in the notation of this module."""
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_RAISED)}}}", text)
    text = _strip_frames(_ROOT.sub(r"\\sqrt{\1}", text).translate(_CHARACTERS))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return " ".join(_strip_frames(text).split())


def _strip_frames(text: str) -> str:
    """`text` without enclosing math delimiters, fonts and boxes, and without a final period."""
    before = None
    while text != before:
        before = text
        text = unwrap(_ENDING.sub("", text))
        for start, end in _FRAMES:
            inner = text[len(start) : -len(end)]
            if text.startswith(start) and text.endswith(end) and inner and end not in inner:
                text = inner
        if text.startswith("{") and closing_brace(text, 1) == len(text) - 1:
            text = rf"\{{{text[1:-1]}\}}" if "," in text else text[1:-1]
    return text
