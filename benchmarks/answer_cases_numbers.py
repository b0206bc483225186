"""Numbers as right answers, with rewritings that must count and mutations that must not."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An answer, and whether it must count.

    Example:
        Case(kind="integer", change="full stop", gold="45", answer="45.", counts=True)
    """

    kind: str
    change: str
    gold: str
    answer: str
    counts: bool
    problem: str = ""


FRAMES = {
    "full stop": "{}.",
    "dollars": "${}$",
    "brackets": r"\({}\)",
    "box": r"\boxed{{{}}}",
    "spaces": "  {} ",
    "thin space": "{}\u2009",
    "assignment": "x = {}",
    "equals": "= {}",
    "sentence": "The answer is {}.",
}
RELATIONS = (
    ">",
    "<",
    r"\neq",
    r"\ne",
    r"\le",
    r"\ge",
    r"\leq",
    "≠",
    "≤",
    "!=",
    r"\lt",
    "x >",
    "x <",
)
NUMBER_FRAMES = {
    "text": r"\text{{{}}}",
    "mathrm": r"\mathrm{{{}}}",
    "mbox": r"\mbox{{{}}}",
    "textbf": r"\textbf{{{}}}",
    "narrow": "\u202f{}",
    "leading thin": r"\,{}\,",
}
GUESSES = (
    "{} or {}",
    "{}, {}",
    "{}; {}",
    "{}\n{}",
    r"{} \text{{ or }} {}",
    "{} and {}",
    "either {} or {}",
)


def framed(kind: str, gold: str, problem: str = "") -> Iterator[Case]:
    """Rewritings that suit every gold."""
    for change, frame in FRAMES.items():
        if not (
            change in ("assignment", "equals")
            and kind in ("equation", "word", "choice", "list", "set")
        ):
            yield Case(
                kind=kind,
                change=change,
                gold=gold,
                answer=frame.format(gold),
                counts=True,
                problem=problem,
            )


def hedged(kind: str, gold: str, other: str) -> Iterator[Case]:
    """Two answers in one."""
    for guess in GUESSES:
        for pair in ((gold, other), (other, gold)):
            yield Case(
                kind=kind, change="two answers", gold=gold, answer=guess.format(*pair), counts=False
            )


def related(kind: str, gold: str) -> Iterator[Case]:
    """A relation where a value is asked."""
    for sign in RELATIONS:
        yield Case(kind=kind, change="relation", gold=gold, answer=f"{sign} {gold}", counts=False)


def grouped(number: int, mark: str) -> str:
    """`number` with `mark` between its thousands."""
    return f"{number:,}".replace(",", mark)


def integers(draw: random.Random) -> Iterator[Case]:
    """Whole numbers, short, long and negative."""
    value = draw.choice(
        [draw.randrange(2, 100), draw.randrange(1000, 10**7), -draw.randrange(2, 5000)]
    )
    gold = str(value)
    right = {change: frame.format(gold) for change, frame in NUMBER_FRAMES.items()}
    right |= {"point": f"{gold}.0", "minus": gold.replace("-", "\u2212"), "e": f"{value}e0"}
    right |= {"power of ten": rf"{value / 10:.1f} \times 10^1", "ten": f"{value / 100:.2f}E2"}
    if abs(value) >= 1000:
        marks = (",", "{,}", r"\,", r"\;", " ", "\u2009", "\u00a0", "\u202f", r"{,}\!")
        right |= {f"thousands {mark!a}": grouped(value, mark) for mark in marks}
    wrong = {
        "digit": gold + "7",
        "next": str(value + 1),
        "sign": str(-value),
        "ten times": f"{value}0",
        "a tenth": str(value / 10),
        "percent": f"{gold}%" if False else f"{value}.5",
        "exponent": f"{value}e1",
        "variable": f"{value}x",
        "base": f"{abs(value)}_7",
        "factorial": f"{abs(value) % 50 + 50}!",
        "plus or minus": rf"\pm {abs(value)}",
        "thrice": f"{gold} {gold}",
        "not": f"not {gold}",
        "false equation": f"{value} = {value + 1}",
        "at least": f"at least {gold}",
        "comma": f"{gold}, {gold}7",
        "pair": f"({gold}, {gold})",
    }
    yield from built("integer", gold, right, wrong)
    yield from framed("integer", gold)
    yield from hedged("integer", gold, str(value + 4))
    yield from related("integer", gold)


def built(
    kind: str, gold: str, right: dict[str, str], wrong: dict[str, str], problem: str = ""
) -> Iterator[Case]:
    """Cases from answers by the name of the change."""
    for counts, answers in ((True, right), (False, wrong)):
        for change, answer in answers.items():
            yield Case(
                kind=kind, change=change, gold=gold, answer=answer, counts=counts, problem=problem
            )


def decimals(draw: random.Random) -> Iterator[Case]:
    """Decimals down to 1e-12."""
    places = draw.choice([1, 2, 3, 5, 9, 12])
    digits = draw.randrange(1, 1000) * 10 + draw.randrange(1, 10)
    value = Fraction(digits, 10**places)
    gold = f"{digits / 10**places:.{places}f}"
    right = {change: frame.format(gold) for change, frame in NUMBER_FRAMES.items()}
    right |= {
        "zeros": f"{gold}00",
        "fraction": rf"\frac{{{value.numerator}}}{{{value.denominator}}}",
        "slash": f"{value.numerator}/{value.denominator}",
        "e": f"{digits}e-{places}",
        "E": f"{digits}E-{places}",
        "scientific": rf"{digits} \times 10^{{-{places}}}",
        "unicode": f"{digits} \u00d7 10⁻{''.join('⁰¹²³⁴⁵⁶⁷⁸⁹'[int(d)] for d in str(places))}",
        "dot": rf"{digits}\cdot 10^{{-{places}}}",
    }
    wrong = {
        "last digit": gold[:-1] + str((int(gold[-1]) + 1) % 10),
        "twice": f"{2 * digits / 10**places:.{places}f}",
        "zero": "0",
        "exponent": f"{digits}e-{places + 1}",
        "Euler": rf"{digits}e - {places}",
        "sign": f"-{gold}",
        "percent": rf"{gold}\%",
    }
    yield from built("decimal", gold, right, wrong)
    yield from framed("decimal", gold)
    yield from hedged("decimal", gold, gold + "3")
    yield from related("decimal", gold)


def fractions(draw: random.Random) -> Iterator[Case]:
    """Fractions that no decimal ends."""
    value = Fraction(draw.randrange(1, 40), draw.choice([3, 7, 9, 11, 13, 17]))
    while value.denominator == 1:
        value += Fraction(1, 3)
    a, b = value.numerator, value.denominator
    gold = draw.choice([f"{a}/{b}", rf"\frac{{{a}}}{{{b}}}"])
    right = {
        "frac": rf"\frac{{{a}}}{{{b}}}",
        "dfrac": rf"\dfrac{{{a}}}{{{b}}}",
        "slash": f"{a}/{b}",
        "spaced": f"{a} / {b}",
        "unreduced": f"{2 * a}/{2 * b}",
        "decimals": f"{a / b:.12f}",
        "parentheses": f"({a}/{b})",
        "left": rf"\left(\frac{{{a}}}{{{b}}}\right)",
    }
    if a > b:
        right["mixed"] = rf"{a // b}\frac{{{a % b}}}{{{b}}}"
        right["mixed slash"] = f"{a // b} {a % b}/{b}"
    wrong = {
        "swapped": f"{b}/{a}",
        "two places": f"{a / b:.2f}",
        "next": f"{a + 1}/{b}",
        "sign": f"-{a}/{b}",
        "pair": f"({a}, {b})",
        "whole": str(a),
        "wrong digit": f"{a / b + 1e-4:.12f}",
    }
    yield from built("fraction", gold, right, wrong)
    yield from framed("fraction", gold)
    yield from hedged("fraction", gold, f"{a + 1}/{b}")
    yield from related("fraction", gold)


def constants(draw: random.Random) -> Iterator[Case]:
    """Radicals and multiples of pi, and the same 20 orders of magnitude smaller."""
    n, k = draw.choice([2, 3, 5, 6, 7, 10, 11]), draw.randrange(2, 9)
    gold, value, alike = draw.choice(
        [
            (
                rf"{k}\sqrt{{{n}}}",
                k * n**0.5,
                {"inside": rf"\sqrt{{{k * k * n}}}", "plain": f"{k}*sqrt({n})", "sign": f"{k}√{n}"},
            ),
            (
                rf"\frac{{\pi}}{{{k}}}",
                3.141592653589793 / k,
                {"slash": rf"\pi/{k}", "pi": f"pi/{k}", "sign": f"π/{k}"},
            ),
            (
                rf"{k}\pi",
                3.141592653589793 * k,
                {"times": rf"\pi \cdot {k}", "plain": f"{k}*pi", "sign": f"{k}π"},
            ),
            (
                rf"{k}+\sqrt{{{n}}}",
                k + n**0.5,
                {"order": rf"\sqrt{{{n}}}+{k}", "plain": f"{k} + sqrt({n})"},
            ),
        ]
    )
    right = {**alike, "decimals": f"{value:.10f}"}
    wrong = {
        "two places": f"{value:.2f}",
        "tail": f"{value + 1e-5:.10f}",
        "twice": rf"2 \cdot ({gold})",
        "sign": f"-({gold})",
        "small": rf"\frac{{{gold}}}{{10^{{20}}}}",
        "whole": str(round(value)),
    }
    yield from built("constant", gold, right, wrong)
    yield from framed("constant", gold)
    yield from related("constant", gold)
    tiny, twice = rf"\frac{{{gold}}}{{10^{{20}}}}", rf"\frac{{2 \cdot ({gold})}}{{10^{{20}}}}"
    yield from built("tiny constant", tiny, {"same": f"${tiny}$"}, {"twice": twice, "zero": "0"})
