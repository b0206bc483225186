"""Comparison of expressions and sets by math-verify and by value."""

from fractions import Fraction
from typing import Any

from steadyrl.environments.math_numbers import read_number, rounds

_DIGITS = 60
_NEAR = 1e-40


def same_expression(gold: str, answer: str) -> bool:
    """Whether math-verify finds two texts in the package's notation equal.

    Its tolerances are absolute, so decimals are converted to fractions first, and results that it
    finds equal are compared again by relative difference.
    """
    from math_verify import verify

    expected, given = parse_expression(gold), parse_expression(answer)
    if expected is None or given is None:
        return False
    if (rounded := _as_decimal(gold, answer, expected, given)) is not None:
        return rounded
    return bool(verify(expected, given, timeout_seconds=None)) and _near(expected, given)


def parse_expression(text: str) -> Any:
    """SymPy expression of `text`, with decimals as fractions; None if it cannot be parsed."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Basic, Float, Rational

    rules = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
    )
    found = parse(
        rf"\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(normalization_config=rules)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    if not found:
        return None
    (expression, *_) = found
    if isinstance(expression, Basic) and expression.has(Float):
        replaced = {number: Rational(str(number)) for number in expression.atoms(Float)}
        return expression.xreplace(replaced)
    return expression


def _as_decimal(gold: str, answer: str, expected: Any, given: Any) -> bool | None:
    """Whether one is a precise decimal of the other, a constant; None if neither is a decimal."""
    for text, constant in ((answer, expected), (gold, given)):
        number = read_number(text)
        if number is not None and number.digits and (exact := _value(constant)) is not None:
            return number.value == exact or rounds(number, exact)
    return None


def _value(constant: Any) -> Fraction | None:
    from sympy import Expr

    if not isinstance(constant, Expr) or constant.free_symbols:
        return None
    try:
        value = constant.evalf(_DIGITS)
        return Fraction(str(value)) if value.is_Float or value.is_Rational else None
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _near(expected: Any, given: Any) -> bool:
    """Whether two expressions have close values at one point; True if they have no values."""
    from sympy import Expr, MatrixBase, Rational

    if isinstance(expected, MatrixBase) and isinstance(given, MatrixBase):
        return all(map(_near, expected.flat(), given.flat()))
    if not isinstance(expected, Expr) or not isinstance(given, Expr):
        return True
    names = sorted(expected.free_symbols | given.free_symbols, key=str)
    place = {name: Rational(10_007 + 97 * n, 7_919) for n, name in enumerate(names)}
    try:
        left, right = (side.xreplace(place).evalf(_DIGITS) for side in (expected, given))
        return bool(abs(left - right) <= _NEAR * max(abs(left), abs(right)))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return True  # there is no value, as where a symbol is a matrix
