"""Expressions and sets, compared by math-verify and then by their values."""

from fractions import Fraction
from typing import Any

from steadyrl.environments.math_numbers import read_number, rounds

_DIGITS = 60
_NEAR = 1e-40


def same_expression(gold: str, answer: str) -> bool:
    """Whether math-verify finds two texts, in the package's notation, the same.

    Its tolerances are absolute, so decimals are made fractions before, and what it finds equal is
    compared once more by value, relatively.
    """
    from math_verify import verify

    expected, given = parse_expression(gold), parse_expression(answer)
    if expected is None or given is None:
        return False
    if (rounded := _as_decimal(gold, answer, expected, given)) is not None:
        return rounded
    return bool(verify(expected, given, timeout_seconds=None)) and _near(expected, given)


def parse_expression(text: str) -> Any:
    """What `text` is to SymPy, its decimals as fractions; None for what is no mathematics."""
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
    """Whether one is a decimal of enough digits for the other, a constant; None if neither is."""
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
    """Whether two expressions have relatively near values at one place; True if they have none."""
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
