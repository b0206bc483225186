r"""Exact values of written numbers: 1,234.50, 2/3, 4\frac{2}{3}, 0.1\overline{6}.

Two numbers are equal if their values are. A decimal also equals a non-integer value that it rounds,
if it has at least six significant digits.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_MIN_DIGITS = 6
_FLOAT_DIGITS = 16
_FLOAT_NOISE = Fraction(4, 2**53)
_MAX_EXPONENT = 4000

_INTEGER = r"(?:\d{1,3}(?:(?P<mark{0}>[, '_])\d{{3}})(?:(?P=mark{0})\d{{3}})*|\d+)"
_DECIMAL = re.compile(
    r"(?P<whole>" + _INTEGER.replace("{0}", "").replace("{{", "{").replace("}}", "}") + r"|)"
    r"(?P<point>\.(?P<places>\d*))?"
    r"(?P<scale>\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?P<brace>\{)?\s*(?P<exponent>[+-]?\d+)\s*(?(brace)\}))?"
)
_POWER_OF_TEN = re.compile(r"10\s*\^\s*(?:\{\s*([+-]?\d+)\s*\}|([+-]?\d+))")
_FRACTION = re.compile(
    r"(?P<whole>\d+(?:\s*\\?\s*(?=\\frac)|\s+))?"
    r"(?:\\frac\s*(?:\{\s*(?P<a>[+-]?\d+)\s*\}|(?P<c>\d))\s*(?:\{\s*(?P<b>[+-]?\d+)\s*\}|(?P<d>\d))"
    r"|(?P<e>\d+)\s*/\s*(?P<f>\d+))"
)
_REPEATING = re.compile(
    r"(?P<whole>\d*)\.(?P<places>\d*)\\(?:overline|dot)\s*(?:\{\s*(?P<period>\d+)\s*\}|(?P<digit>\d))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenNumber:
    """A number and its spelling.

    Example:
        WrittenNumber(value=Fraction(5, 4), digits=3, unit=Fraction(1, 100))   # 1.25
    """

    value: Fraction

    digits: int = 0
    """Number of significant digits of a decimal that is not an integer; 0 for other numbers."""

    unit: Fraction = Fraction(0)
    """Value of one unit in the last place."""

    reduced: bool = True
    """Whether it is in lowest terms."""


def read_number(text: str) -> WrittenNumber | None:
    """Parses a number in the package's notation; None if `text` is anything else."""
    text = text.strip()
    sign = 1
    while text[:1] in ("+", "-", "(", "{"):
        if text[0] in "({":
            if text[-1] != {"(": ")", "{": "}"}[text[0]] or "," in text:
                return None
            text = text[1:-1].strip()
            continue
        sign = -sign if text[0] == "-" else sign
        text = text[1:].strip()
        if text[:1] in ("+", "-"):
            return None
    try:
        return _read_unsigned(text, sign)
    except (ValueError, ZeroDivisionError):  # a division by zero, or more digits than int() takes
        return None


def _read_unsigned(text: str, sign: int) -> WrittenNumber | None:
    if match := _POWER_OF_TEN.fullmatch(text):
        exponent = int(match[1] or match[2])
        if abs(exponent) > _MAX_EXPONENT:
            return None
        return WrittenNumber(value=sign * Fraction(10) ** exponent)
    if match := _FRACTION.fullmatch(text):
        above = Fraction(int(match["a"] or match["c"] or match["e"]))
        below = int(match["b"] or match["d"] or match["f"])
        value = above / below
        reduced = value.denominator == abs(below) and below != 1
        if match["whole"]:
            value += int(re.sub(r"\D", "", match["whole"]))
        return WrittenNumber(value=sign * value, reduced=reduced)
    if match := _REPEATING.fullmatch(text):
        return WrittenNumber(value=sign * _repeating(match))
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match["whole"] or match["places"]):
        return None
    return _decimal(match, sign)


def _repeating(match: re.Match[str]) -> Fraction:
    r"""Value of 0.1\overline{6}: a period of n digits is a fraction with n nines."""
    period = match["period"] or match["digit"]
    start = int((match["whole"] + match["places"]) or 0)
    repeated = Fraction(int(period), 10 ** len(period) - 1)
    return (start + repeated) / 10 ** len(match["places"])


def _decimal(match: re.Match[str], sign: int) -> WrittenNumber | None:
    whole, places = re.sub(r"\D", "", match["whole"]), match["places"] or ""
    exponent = int(match["exponent"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    unit = Fraction(10) ** (exponent - len(places))
    value = int(whole + places) * unit
    if not match["point"] and not match["scale"]:
        return WrittenNumber(value=sign * value)
    digits = len((whole + places).lstrip("0"))
    return WrittenNumber(value=sign * value, digits=digits, unit=unit)


def same_number(gold: WrittenNumber, answer: WrittenNumber) -> bool:
    """Whether the values are equal, or one is a sufficiently precise decimal of the other."""
    if gold.value == answer.value:
        return True
    near = abs(gold.value - answer.value) <= _FLOAT_NOISE * abs(gold.value)
    if near and max(gold.digits, answer.digits) >= _FLOAT_DIGITS:
        return True
    if rounds(answer, gold.value):
        return True
    return not answer.digits and rounds(gold, answer.value)


def rounds(decimal: WrittenNumber, exact: Fraction) -> bool:
    """Whether `decimal` is the non-integer `exact` rounded to enough significant digits."""
    if exact.denominator == 1 or decimal.digits < _MIN_DIGITS:
        return False
    return 2 * abs(decimal.value - exact) <= decimal.unit
