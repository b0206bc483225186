r"""Units of answers: 5\text{ cm} is the number 5 with the unit cm.

A unit that the gold answer lacks is ignored if the problem mentions it. Answers in two different
units agree only if a conversion factor relates them.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_KINDS: dict[str, dict[str, tuple[int | float | str, str]]] = {
    "length": {
        "mm": ("1/1000", "millimeter millimetre"),
        "cm": ("1/100", "centimeter centimetre"),
        "m": (1, "meter metre"),
        "km": (1000, "kilometer kilometre"),
        "in": ("254/10000", "inch inche"),
        "ft": ("3048/10000", "foot feet"),
        "yd": ("9144/10000", "yard"),
        "mi": ("1609344/1000", "mile"),
    },
    "mass": {
        "mg": ("1/1000", "milligram"),
        "g": (1, "gram gm"),
        "kg": (1000, "kilogram kilo"),
        "oz": ("28349523125/1000000000", "ounce"),
        "lb": ("45359237/100000", "pound lbs"),
    },
    "time": {
        "s": (1, "second sec"),
        "min": (60, "minute"),
        "h": (3600, "hour hr"),
        "day": (86400, ""),
        "week": (604800, ""),
        "month": ("", ""),
        "year": ("", "yr"),
    },
    "volume": {"ml": ("1/1000", "milliliter millilitre"), "l": (1, "liter litre")},
    "money": {"$": (1, "dollar usd buck"), "cent": ("1/100", "")},
    "euro": {"€": (1, "euro eur")},
    "sterling": {"£": (1, "gbp")},
    "speed": {"mph": ("", ""), "km/h": ("", "kph kmh"), "m/s": ("", "")},
    "angle": {"°": (1, "degree deg circ"), "radian": ("", "rad")},
    "share": {"%": ("1/100", "percent percentage pct")},
}
_MONEY = "dollar cost price pay paid earn spend spent money worth sell sold buy bought bill save"
_HINTS = {"$": _MONEY, "cent": _MONEY, "°": "angle", "%": "percent percentage"}
_NAMED = {
    alias: (name, kind, None if factor == "" else Fraction(factor))
    for kind, units in _KINDS.items()
    for name, (factor, aliases) in units.items()
    for alias in (name, *aliases.split())
}
UNIT_NAMES = frozenset(_NAMED)
"""Names of all units with a known kind, in the singular."""

_NOT_NOUNS = frozenset({"not", "or", "and", "but", "maybe", "if", "is", "to", "more", "less"})
_SYMBOLS = re.compile(r"\\?\$|\\?%|\^\s*\\circ|\\circ|€|£|°")
_PREFIX = re.compile(r"^([+-]?)\s*(\\?\$|€|£|\\text\{\s*\\?\$\s*\})\s*(?=[\d.\\(])")
_WORDS = r"[A-Za-z][A-Za-z./]*(?:\s+[A-Za-z][A-Za-z./]*)*"
_POWER = r"(?:\s*\^\s*(?:\{\s*(?P<p>[23])\s*\}|(?P<q>[23])))?"
_SUFFIX = re.compile(
    rf"\s*(?P<all>\\?%|\\?\$|\^\s*\\circ(?:\s*(?:\\text\{{\s*[CF]\s*\}}|[CF]))?|€|£"
    rf"|\\text\s*\{{\s*(?P<text>[^{{}}]*?)\s*\}}{_POWER.replace('?P<p>', '').replace('?P<q>', '')}"
    rf"|(?P<gap>\s|(?<=[\d)}}]))(?P<bare>{_WORDS}){_POWER})$"
)
_VALUE = re.compile(
    r"(?:\\(?:frac|sqrt|pi|times|cdot|infty|overline|dot)(?![A-Za-z])|[^A-Za-z\\])*"
)
_DIMENSIONS = {"square": "^2", "sq": "^2", "sq.": "^2", "cubic": "^3", "cu": "^3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit, or the noun of what is counted.

    Example:
        Unit(name="km", kind="length", power=1, factor=Fraction(1000))
    """

    name: str
    kind: str = ""
    power: int = 1
    factor: Fraction | None = None
    """Size in the base unit of its kind; None: not convertible."""


def split_unit(text: str) -> tuple[str, Unit | None]:
    """The value of `text`, in the package's notation, and its unit; None: no unit."""
    if prefix := _PREFIX.match(text):
        return prefix[1] + text[prefix.end() :], make_unit(prefix[2])
    suffix = _SUFFIX.search(text)
    if suffix is None:
        return text, None
    value = text[: suffix.start()].rstrip()
    if not _VALUE.fullmatch(value) or not re.search(r"(?:[\d.)}]|\\pi)$", value):
        return text, None
    words = (suffix["bare"] or suffix["text"] or "").lower().split()
    if len(words) > 3 or not _NOT_NOUNS.isdisjoint(words):
        return text, None
    bare = suffix["bare"]
    if bare is not None and len(bare) < 3 and bare.lower() not in _NAMED:
        return text, None
    if bare is not None and len(bare) == 1 and not suffix["gap"]:
        return text, None  # 5m is a product, 5 m a length
    return value, make_unit(suffix["all"])


def make_unit(text: str) -> Unit:
    """The unit named by `text`."""
    text = re.sub(r"\\text\s*\{\s*([^{}]*?)\s*\}", r"\1", text)
    power = re.search(r"\^\s*\{?\s*([23])\s*\}?\s*$", text)
    exponent = int(power[1]) if power else 1
    words = (text[: power.start()] if power else text).replace("\\", "").lower().strip(" .").split()
    while words and words[0] in _DIMENSIONS:
        exponent *= int(_DIMENSIONS[words.pop(0)][1:])
    if words[1:] == ["squared"] or words[1:] == ["cubed"]:
        exponent *= 2 if words.pop() == "squared" else 3
    name = " ".join(map(singular, words)).replace(" per ", "/").replace("^circ", "°")
    name = name.replace("^ circ", "°")
    named, kind, factor = _NAMED.get(name, (name, "", None))
    scale = None if factor is None else factor**exponent
    return Unit(name=named, kind=kind, power=exponent, factor=scale)


def singular(word: str) -> str:
    """Singular of an English noun, as far as units need it."""
    if word in _NAMED or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("s") and word[:-1] in _NAMED:
        return word[:-1]
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def conversion(unit: Unit, into: Unit) -> Fraction | None:
    """Number of `into` in one `unit`; None if they are not convertible."""
    if unit == into:
        return Fraction(1)
    if not unit.kind or (unit.kind, unit.power) != (into.kind, into.power):
        return None
    if unit.factor is None or into.factor is None:
        return None
    return unit.factor / into.factor


def speaks_of(problem: str, unit: Unit) -> bool:
    """Whether `problem` allows an answer in `unit`: mentions it and asks for no other of its kind.

    An empty `problem` allows every unit.
    """
    if not problem:
        return True
    lowered = problem.lower()
    if unit.kind == "length" and not _speaks_of_power(lowered, unit.power):
        return False
    words = {singular(word) for word in re.findall(r"[a-z]+(?:/[a-z]+)?", lowered)}
    symbols = {make_unit(found).name for found in _SYMBOLS.findall(lowered)}
    mentioned = {_NAMED[word][0] for word in words if word in _NAMED} | symbols | words
    asked = re.findall(
        r"(?:how many|how much|number of|answer in|expressed? in|in)\s+([a-z]+)", lowered
    )
    requested = {_NAMED[singular(word)][:2] for word in asked if singular(word) in _NAMED}
    if any(kind == unit.kind and name != unit.name for name, kind in requested) and not any(
        name == unit.name for name, _ in requested
    ):
        return False
    hinted = set(_HINTS.get(unit.name, "").split()) & words
    return bool(hinted) or all(part in mentioned for part in unit.name.split())


def _speaks_of_power(problem: str, power: int) -> bool:
    if power == 1:
        return not re.search(r"(?:how many|how much|in)\s+(?:square|sq|cubic|cu)\b", problem)
    names = {2: r"square|\bsq\b|area|\^\s*\{?2|\u00b2", 3: r"cubic|volume|\^\s*\{?3|\u00b3"}
    return bool(re.search(names[power], problem)) if power in names else False
