"""Rule-based comparison of mathematical answers.

Gold answer and answer are normalized to one notation. Words are then compared as words; relations,
equations, units and lists are split into parts; written numbers are compared exactly; and the
remaining expressions and sets are compared by math-verify.
"""

import re
from fractions import Fraction

from steadyrl.environments.answer_text import plain_text
from steadyrl.environments.math_notation import normalize_notation
from steadyrl.environments.math_numbers import read_number, same_number
from steadyrl.environments.math_parts import Parts, readings, sides, with_both_signs
from steadyrl.environments.math_symbols import same_expression
from steadyrl.environments.math_units import Unit, conversion, speaks_of, split_unit
from steadyrl.environments.simplification import is_simplified
from steadyrl.environments.stated_answers import stated_answer

_VARIABLE = r"(?:[A-Za-z]|\\(?:alpha|beta|gamma|theta|lambda|mu|phi|omega))"
_NAME = re.compile(rf"{_VARIABLE}(?:_(?:\{{\w+\}}|\w))?(?:\({_VARIABLE}\))?")
_RELATION = re.compile(
    rf"(?P<name>{_VARIABLE})?\s*"
    r"(?P<sign><|>|~|\\(?:le|ge|ne|approx|sim|simeq|cong|equiv|in|notin|ll|gg|propto)(?![A-Za-z]))"
    r"\s*(?P<rest>.+)"
)
_INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne|ll|gg|notin)(?![A-Za-z])")
_APPROXIMATE = frozenset({r"\approx", r"\sim", r"\simeq", r"\cong", "~"})
_WORDS = re.compile(r"[^\W\d_][^\W\d_]*(?:[\s'-]+[^\W\d_]+)*")
_CHOICE = re.compile(r"\(?([A-J])\)?")
_CLOSED = frozenset({"yes", "no", "true", "false", "odd", "even"})
_FUNCTIONS = frozenset({"sin", "cos", "tan", "log", "exp", "sqrt", "infty", "cosh", "sinh", "tanh"})
_TIME = re.compile(r"(\d{1,2}):(\d\d)\s*(?:\\text\{)?\s*([aApP])?\.?\s*(?:[mM]\.?)?\s*\}?")
_BASED = re.compile(r"(?=[0-9A-F]*[0-9]|[A-F]{2})([0-9A-F]+)\s*_\s*\{?\s*(\d+)\s*\}?")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_TWO_NUMBERS = re.compile(r"\d\s+\d+(?!\s*/)(?!\d)")


def agree(gold: str, answer: str, problem: str = "", require_simplified: bool = False) -> bool:
    """Whether `answer` agrees with `gold`.

    Args:
        problem: Text of the problem, which decides which units may be added; empty if unknown.
        require_simplified: Whether the answer must be simplified, see `is_simplified`.
    """
    if not answer.strip() or not gold.strip():
        return False
    if gold.strip() == answer.strip():
        return True
    right, given = normalize_notation(gold), normalize_notation(answer)
    stated = stated_answer(given, right)
    if require_simplified and not is_simplified(right, stated):
        return False
    return bool(right and stated) and _agrees(right, stated, problem)


def _agrees(gold: str, answer: str, problem: str) -> bool:
    if _SPACES.sub("", gold) == _SPACES.sub("", answer):
        return True
    rules = (
        _as_words,
        _as_both_signs,
        _as_relations,
        _as_equations,
        _as_time,
        _as_base_numerals,
        _as_quantities,
    )
    for rule in (*rules, _as_numbers, _as_parts):
        verdict = rule(gold, answer, problem)
        if verdict is not None:
            return verdict
    return same_expression(gold, answer)


def _as_words(gold: str, answer: str, problem: str) -> bool | None:
    right, given = plain_text(gold), plain_text(answer)
    choices = _CHOICE.fullmatch(right), _CHOICE.fullmatch(given)
    if choices[0] and choices[1]:
        return choices[0][1] == choices[1][1]
    if len(right) == len(given) == 1 and right.isalpha() and given.isalpha():
        return right == given
    longest = max(map(len, re.findall(r"[^\W\d_]+", right)), default=0)
    word = _WORDS.fullmatch(right) and right.lower() not in _FUNCTIONS
    if not word or not (r"\text" in gold or longest > 3 or right.lower() in _CLOSED):
        return None
    if len(right) == 1:
        return None
    return right.casefold() == given.casefold()


def _as_both_signs(gold: str, answer: str, problem: str) -> bool | None:
    right, given = with_both_signs(gold), with_both_signs(answer)
    return None if (right, given) == (gold, answer) else _agrees(right, given, problem)


def _as_relations(gold: str, answer: str, problem: str) -> bool | None:
    right, given = _RELATION.fullmatch(gold), _RELATION.fullmatch(answer)
    if right and given and not _INEQUALITY.search(right["rest"] + given["rest"]):
        named = {right["name"], given["name"]} - {None}
        if right["sign"] != given["sign"] or len(named) > 1:
            return None if len(named) < 2 and right["name"] and given["name"] else False
        return _agrees(right["rest"], given["rest"], problem)
    if right and right["sign"] in _APPROXIMATE | {r"\in"}:
        return _agrees(right["rest"], answer, problem)
    is_set = gold[:1] in ("(", "[") or gold.startswith(r"\{") or r"\cup" in gold
    if given and given["sign"] == r"\in" and is_set:
        return _agrees(gold, given["rest"], problem)
    if given and given["sign"] in _APPROXIMATE:
        number = read_number(split_unit(gold)[0])
        decimal = number is not None and number.digits > 0
        return decimal and _agrees(gold, given["rest"], problem)
    if given and not right and not is_set and "=" not in gold:
        return False
    if _INEQUALITY.search(answer) and not _INEQUALITY.search(gold) and not is_set:
        return False
    return None


def _as_equations(gold: str, answer: str, problem: str) -> bool | None:
    right, given = sides(gold), sides(answer)
    if len(given) > 1 and len(right) == 1:
        return _last_side_agrees(gold, given, problem)
    if len(right) == 2 and _NAME.fullmatch(right[0]):
        if len(given) == 1:
            return _agrees(right[1], answer, problem)
        if _NAME.fullmatch(given[0]):
            same = _SPACES.sub("", right[0]) == _SPACES.sub("", given[0])
            return same and _last_side_agrees(right[1], given[1:], problem)
    return None


def _last_side_agrees(gold: str, given: list[str], problem: str) -> bool:
    """Whether the last side of an equation is `gold`, and no other side is a different number."""
    if not given[0]:
        given = given[1:]
    if not all(given):
        return False
    numbers = [number for side in given if (number := read_number(split_unit(side)[0]))]
    if any(not same_number(numbers[-1], number) for number in numbers):
        return False
    named_last = _NAME.fullmatch(given[-1]) and len(given) == 2 and read_number(given[0])
    return _agrees(gold, given[0] if named_last else given[-1], problem)


def _as_time(gold: str, answer: str, problem: str) -> bool | None:
    right, given = _TIME.fullmatch(gold), _TIME.fullmatch(answer)
    if not right or not given:
        return None
    halves = {half.lower() for half in (right[3], given[3]) if half}
    return (int(right[1]), right[2]) == (int(given[1]), given[2]) and len(halves) < 2


def _as_base_numerals(gold: str, answer: str, problem: str) -> bool | None:
    right, given = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if given is None:
        return _agrees(right[1], answer, problem) if right and "_" not in answer else None
    if right:
        return right[1].lstrip("0") == given[1].lstrip("0") and right[2] == given[2]
    base = given[2]
    spoken = bool(re.search(rf"base[- ]?\$?{base}\b|_\{{?{base}\b", problem))
    return (spoken or base == "10") and gold.lstrip("0") == given[1].lstrip("0")


def _as_quantities(gold: str, answer: str, problem: str) -> bool | None:
    (right, gold_unit), (given, unit) = split_unit(gold), split_unit(answer)
    if gold_unit is None and unit is None:
        return None
    if unit is None:
        return _agrees(right, given, problem) or _is_percentage_of(gold_unit, right, given, problem)
    if gold_unit is None:
        value = _is_percentage_of(unit, given, right, problem)
        if unit.name == "%":
            number = read_number(right)
            whole = number is not None and number.value.denominator == 1
            spoken = speaks_of(problem, unit) and (problem != "" or whole)
            return value or (spoken and _agrees(right, given, problem))
        return speaks_of(problem, unit) and _agrees(right, given, problem)
    factor = conversion(unit, gold_unit)
    if factor is None:
        return False
    if factor == 1:
        return _agrees(right, given, problem)
    number, other = read_number(right), read_number(given)
    return bool(number and other and number.value == other.value * factor)


def _is_percentage_of(unit: Unit | None, percentage: str, bare: str, problem: str) -> bool:
    """Whether `percentage` percent equal the number `bare`."""
    if unit is None or unit.name != "%":
        return False
    number, other = read_number(percentage), read_number(bare)
    if number is None or other is None:
        return same_expression(rf"\frac{{{percentage}}}{{100}}", bare)
    return number.value * Fraction(1, 100) == other.value


def _as_numbers(gold: str, answer: str, problem: str) -> bool | None:
    right, given = read_number(gold), read_number(answer)
    if right and given:
        return same_number(right, given)
    two = _TWO_NUMBERS.search(answer) and not _TWO_NUMBERS.search(gold)
    ratio = right and right.value.denominator == 1 and ":" in answer
    return False if two or ratio else None


def _as_parts(gold: str, answer: str, problem: str) -> bool | None:
    """Compares tuples, intervals, sets and lists part by part."""
    pairs = [(right, given) for right in readings(gold) for given in readings(answer)]
    comparable = [pair for pair in pairs if pair[0].is_like(pair[1])]
    if comparable:
        return any(_parts_agree(right, given, problem) for right, given in comparable)
    return False if any(right.shape and given.shape for right, given in pairs) else None


def _parts_agree(gold: Parts, answer: Parts, problem: str) -> bool:
    if len(gold.parts) != len(answer.parts):
        return False
    if gold.ordered or answer.ordered:
        pairs = zip(gold.parts, answer.parts, strict=True)
        return all(_agrees(right, given, problem) for right, given in pairs)
    left = list(answer.parts)
    for right in gold.parts:
        found = next((given for given in left if _agrees(right, given, problem)), None)
        if found is None:
            return False
        left.remove(found)
    return True
