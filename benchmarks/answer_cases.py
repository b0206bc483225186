"""Right answers of many kinds, with rewritings that must count and mutations that must not."""

import random
from collections.abc import Callable, Iterator

from answer_cases_numbers import (
    Case,
    built,
    constants,
    decimals,
    fractions,
    framed,
    integers,
)


def structures(draw: random.Random) -> Iterator[Case]:
    """Tuples, sets, lists and intervals."""
    a, b = draw.randrange(-9, 9), draw.randrange(10, 30)
    right = {
        "spaces": f"( {a} , {b} )",
        "left": rf"\left({a}, {b}\right)",
        "points": f"({a}.0, {b})",
    }
    wrong = {
        "order": f"({b}, {a})",
        "entry": f"({a}, {b + 1})",
        "short": f"({a})",
        "long": f"({a}, {b}, {b})",
        "closed": f"[{a}, {b}]",
        "half": f"({a}, {b}]",
        "one": str(a),
    }
    yield from built("tuple", f"({a}, {b})", right, wrong)
    right = {
        "order": rf"\{{{b}, {a}\}}",
        "bare": f"{a}, {b}",
        "and": f"{a} and {b}",
        "text": rf"{b} \text{{ and }} {a}",
    }
    wrong = {
        "entry": rf"\{{{a}, {b + 1}\}}",
        "more": rf"\{{{a}, {b}, {b + 1}\}}",
        "less": rf"\{{{a}\}}",
        "one": str(b),
    }
    yield from built("set", rf"\{{{a}, {b}\}}", right, wrong)
    right = {
        "order": f"{b}, {a}",
        "or": f"{a} or {b}",
        "semicolon": f"{a}; {b}",
        "tight": f"{a},{b}",
    }
    wrong = {"entry": f"{a}, {b + 1}", "more": f"{a}, {b}, {b + 1}", "one": str(a)}
    yield from built("list", f"{a}, {b}", right, wrong)
    right = {"left": rf"\left[{a}, {b}\right)", "in": rf"x \in [{a}, {b})"}
    wrong = {
        "closed": f"[{a}, {b}]",
        "open": f"({a}, {b})",
        "end": f"[{a}, {b + 1})",
        "other": f"({a}, {b}]",
    }
    yield from built("interval", f"[{a}, {b})", right, wrong)
    tiny, other = f"({b}e-12, {b})", f"({2 * b}e-12, {b})"
    yield from built(
        "tiny tuple",
        tiny,
        {"written": f"({b} \u00d7 10^{{-12}}, {b})"},
        {"entry": other, "zero": f"(0, {b})"},
    )
    for kind, gold in (
        ("tuple", f"({a}, {b})"),
        ("set", rf"\{{{a}, {b}\}}"),
        ("interval", f"[{a}, {b})"),
    ):
        yield from framed(kind, gold)


def expressions(draw: random.Random) -> Iterator[Case]:
    """Polynomials, complex numbers, equations and inequalities."""
    a, b = draw.randrange(2, 9), draw.randrange(2, 9)
    right = {
        "order": f"{b} + {a}x",
        "times": rf"{a} \cdot x + {b}",
        "star": f"{a}*x+{b}",
        "twice": f"x + {a - 1}x + {b}",
    }
    wrong = {
        "sign": f"{a}x-{b}",
        "name": f"{a}y+{b}",
        "coefficient": f"{a + 1}x+{b}",
        "number": str(a),
        "value": f"{a + b}",
    }
    yield from built("polynomial", f"{a}x+{b}", right, wrong)
    right = {
        "expanded": f"x^2+{a + b}x+{a * b}",
        "order": f"(x+{b})(x+{a})",
        "stars": f"x**2+{a + b}*x+{a * b}",
    }
    wrong = {"sign": f"(x-{a})(x+{b})", "degree": f"(x+{a})", "name": f"(y+{a})(y+{b})"}
    yield from built("product", f"(x+{a})(x+{b})", right, wrong)
    right = {"order": f"{b}i+{a}", "spaces": f"{a} + {b} i"}
    wrong = {
        "conjugate": f"{a}-{b}i",
        "real": str(a),
        "swapped": f"{b}+{a}i" if a != b else f"{b}+{a + 1}i",
    }
    yield from built("complex", f"{a}+{b}i", right, wrong)
    right = {"value": str(a), "spaces": f"x  =  {a}"}
    wrong = {
        "name": f"y = {a}",
        "other": f"x = {a + 1}",
        "relation": f"x > {a}",
        "not": rf"x \neq {a}",
    }
    yield from built("equation", f"x = {a}", right, wrong)
    right = {"turned": f"{a} < x", "spaces": f"x  >  {a}", "command": rf"x \gt {a}"}
    wrong = {"closed": rf"x \ge {a}", "less": f"x < {a}", "equal": f"x = {a}", "value": str(a)}
    yield from built("inequality", f"x > {a}", right, wrong)
    yield from framed("polynomial", f"{a}x+{b}")
    letter = draw.choice("tmghsld")
    yield from built(
        "product with a letter",
        f"{a}{letter}",
        {"times": rf"{a} \cdot {letter}"},
        {"number": str(a)},
    )


def words(draw: random.Random) -> Iterator[Case]:
    """Words and letters of choices."""
    gold, other = draw.sample(
        ["north", "Tuesday", "even", "blue", "isosceles", "Evelyn", "yes", "parabola"], 2
    )
    right = {
        "text": rf"\text{{{gold}}}",
        "bold": rf"\textbf{{{gold}}}",
        "case": gold.upper(),
        "mathrm": rf"\mathrm{{{gold}}}",
    }
    wrong = {
        "other": other,
        "anagram": gold[::-1],
        "both": f"{gold} or {other}",
        "not": f"not {gold}",
        "part": gold[:-1],
    }
    yield from built("word", gold, right, wrong)
    yield from built("text", rf"\text{{{gold}}}", {"plain": gold, "stop": f"{gold}."}, wrong)
    a, b = draw.sample("ABCDE", 2)
    right = {
        "parentheses": f"({a})",
        "text": rf"\text{{({a})}}",
        "bold": rf"\textbf{{{a}}}",
        "stop": f"{a}.",
    }
    yield from built(
        "choice", a, right, {"other": b, "both": f"{a} or {b}", "other text": rf"\text{{({b})}}"}
    )


UNITS = [
    (
        "How many meters long is the rope?",
        ["m", "meters", r"\text{ m}", r"\mathrm{m}"],
        ["km", "cm", r"\text{ km}", "m^2", "kg"],
    ),
    (
        "What is the angle in degrees?",
        [r"^\circ", "°", "degrees", r"\text{ degrees}"],
        ["m", "radians", "%"],
    ),
    ("What percent of the children came?", ["%", r"\%", "percent"], ["m", "degrees"]),
    ("How many dollars does the ticket cost?", ["dollars", r"\text{ dollars}"], ["cents", "kg"]),
    (
        "How many slices of pizza are left?",
        ["slices", r"\text{ slices}", "slices of pizza"],
        ["km", "%", "apples"],
    ),
    (
        "How many square feet is the room?",
        ["square feet", "ft^2", r"\text{ ft}^2"],
        ["m^2", "feet", "cubic feet"],
    ),
    ("What is the speed in km/h?", ["km/h", r"\text{ km/h}"], ["mph", "km"]),
]


def quantities(draw: random.Random) -> Iterator[Case]:
    """Numbers with units, where the problem or the right answer speaks of one."""
    problem, ours, others = draw.choice(UNITS)
    value = draw.randrange(2, 400)
    for counts, units in ((True, ours), (False, others)):
        for unit in units:
            answer = f"{value} {unit}"
            change = "unit of the problem" if counts else "another unit"
            yield Case(
                kind="number in a problem",
                change=change,
                gold=str(value),
                answer=answer,
                counts=counts,
                problem=problem,
            )
    for one, same, unlike in (
        ("cm", ["centimeters", r"\text{ cm}", "cm."], ["m", "mm", "km", "cm^2", "kg"]),
        ("km", ["kilometers", r"\mathrm{km}"], ["m", "miles", "cm"]),
        ("hours", ["h", r"\text{ hours}"], ["minutes", "days"]),
    ):
        gold = rf"{value} \text{{ {one}}}"
        yield Case(kind="quantity", change="no unit", gold=gold, answer=str(value), counts=True)
        yield Case(
            kind="quantity", change="number", gold=gold, answer=f"{value + 1} {one}", counts=False
        )
        for counts, units in ((True, same), (False, unlike)):
            for unit in units:
                yield Case(
                    kind="quantity",
                    change=f"unit {unit}",
                    gold=gold,
                    answer=f"{value} {unit}",
                    counts=counts,
                )
    right = {
        "decimal": str(value / 100),
        "fraction": f"{value}/100",
        "plain": str(value),
        "word": f"{value} percent",
    }
    yield from built(
        "percentage",
        rf"{value}\%",
        right,
        {
            "tenth": f"{value / 10}%" if value % 10 else f"{value + 1}%",
            "hundredth": f"{value / 100}%",
        },
    )
    yield from built(
        "money",
        rf"\${value}",
        {"plain": str(value), "word": f"{value} dollars", "sign": f"${value}"},
        {"cents": f"{value} cents", "other": f"\\${value + 1}"},
    )


KINDS: tuple[Callable[[random.Random], Iterator[Case]], ...] = (
    integers,
    decimals,
    fractions,
    constants,
    structures,
    expressions,
    words,
    quantities,
)


def cases(rounds: int, seed: int) -> list[Case]:
    """`rounds` draws of every kind with all their changes, each case once."""
    draw = random.Random(seed)
    drawn = [case for _ in range(rounds) for kind in KINDS for case in kind(draw)]
    return list(dict.fromkeys(drawn))
