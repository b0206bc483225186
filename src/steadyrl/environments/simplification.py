r"""Check that an answer is simplified instead of restating the problem, like 21 + 24 for 45.

An answer is simplified if it is a number in lowest terms, or uses no operation more often than the
gold answer: 2\sqrt{3} is a value of \sqrt{12}, and 1 + \sqrt{3} cannot be simplified.
"""

import re
from collections import Counter

from steadyrl.environments.math_numbers import read_number
from steadyrl.environments.math_parts import readings, sides
from steadyrl.environments.math_units import split_unit

_SCIENTIFIC = re.compile(r"(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?:\{\s*[+-]?\d+\s*\}|[+-]?\d+)")
_SYMBOL = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_COUNTED = {
    "+": re.compile(r"(?<=[\w}).!])\s*\+"),
    "-": re.compile(r"(?<=[\w}).!])\s*-"),
    "*": re.compile(r"(?:\*|\\times|\\cdot)(?!\s*\\(?:sqrt|pi)(?![A-Za-z]))|(?<=[\w})])\s*\((?=.)"),
    "^": re.compile(r"\^(?!\s*\{?\s*\\circ)"),
    "!": re.compile(r"!"),
}
_KINDS = {
    "/": re.compile(r"/|\\frac(?![A-Za-z])|\\div(?![A-Za-z])|:"),
    "mod": re.compile(r"\\(?:bmod|pmod|mod)(?![A-Za-z])"),
}
_FUNCTION = re.compile(
    r"(?<![A-Za-z])\\?(sqrt|sin|cos|tan|cot|log|ln|exp|lg|binom|sum|prod|int|max|min|gcd|lcm|lfloor"
    r"|lceil|arcsin|arccos|arctan|lim|det)(?![A-Za-z])|\|"
)


def is_simplified(gold: str, answer: str) -> bool:
    """Whether `answer`, in the package's notation, is at least as simplified as `gold`.

    Always True for answers with variables, since a polynomial has many forms.
    """
    gold, answer = _value(gold), _value(answer)
    number, right = read_number(answer), read_number(gold)
    if number is not None:
        return number.reduced or (right is not None and not right.reduced)
    if right is None and _SYMBOL.search(gold.replace("e", "").replace("i", "")):
        return True
    if parts := [reading for reading in readings(answer) if reading.ordered]:
        golds = [reading for reading in readings(gold) if len(reading.parts) == len(parts[0].parts)]
        if golds:
            pairs = zip(golds[0].parts, parts[0].parts, strict=True)
            return all(is_simplified(right, given) for right, given in pairs)
    counted, given = _operations(gold), _operations(answer)
    return counted >= given and _kinds(answer) <= _kinds(gold)


def _value(text: str) -> str:
    """Last side of an equation, without its unit."""
    last = sides(text)[-1]
    return split_unit(last or text)[0]


def _operations(text: str) -> Counter[str]:
    text = _SCIENTIFIC.sub("", text)
    return Counter({sign: len(pattern.findall(text)) for sign, pattern in _COUNTED.items()})


def _kinds(text: str) -> set[str]:
    kinds = {kind for kind, pattern in _KINDS.items() if pattern.search(text)}
    return kinds | {match[1] or "|" for match in _FUNCTION.finditer(text)}
