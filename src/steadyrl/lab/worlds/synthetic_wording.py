"""Sentences and questions of the synthetic world."""

from collections.abc import Mapping
from dataclasses import dataclass

TOWNS = ("Bern", "Cork", "Delft", "Ghent", "Graz", "Kyiv", "Oslo", "Turin", "Ulm", "York")
JOBS = ("clerk", "cook", "judge", "miner", "monk", "nurse", "pilot", "poet", "smith", "tailor")

_CONSONANTS, _VOWELS = "bdfklmnprstv", "aeiou"
FIRST_NAMES = (len(_CONSONANTS) * len(_VOWELS)) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Sentences and questions, with the places that names and facts go into."""

    full_names: bool
    """Whether people have a second name."""

    sentences: Mapping[str, str]
    """Sentences of a paragraph, by the fact that each states, in order."""

    bridges: Mapping[str, str]
    """Questions about a person's teacher, by the fact asked for."""

    comparisons: Mapping[str, str]
    """Questions about two people, by the fact compared."""


PLAIN = Wording(
    full_names=True,
    sentences={
        "town": "{name} grew up in {town}.",
        "year": "{name} was born in {year}.",
        "job": "By profession {name} was a {job}.",
        "teacher": "{name} was a student of {teacher}.",
    },
    bridges={
        "town": "In which town did the teacher of {person} grow up?",
        "year": "In which year was the teacher of {person} born?",
        "job": "What was the profession of the teacher of {person}?",
    },
    comparisons={
        "year": "Who was born first, {person} or {other}?",
        "town": "Did {person} and {other} grow up in one town?",
    },
)

COMPACT = Wording(
    full_names=False,
    sentences={
        "town": "{name} is from {town}.",
        "year": "Born: {year}.",
        "job": "Job: {job}.",
        "teacher": "Teacher: {teacher}.",
    },
    bridges={
        "town": "Where is {person}'s teacher from?",
        "year": "When was {person}'s teacher born?",
        "job": "What job has {person}'s teacher?",
    },
    comparisons={
        "year": "Who is older, {person} or {other}?",
        "town": "Are {person} and {other} from one town?",
    },
)


def first_name(number: int) -> str:
    """The name of that number below `FIRST_NAMES`: four letters, such as "Boka"."""
    number, fourth = divmod(number, len(_VOWELS))
    number, third = divmod(number, len(_CONSONANTS))
    first, second = divmod(number, len(_VOWELS))
    letters = (_CONSONANTS[first], _VOWELS[second], _CONSONANTS[third], _VOWELS[fourth])
    return "".join(letters).capitalize()


def second_name(number: int) -> str:
    """The surname of that number: five letters, such as "Limur"."""
    start, last = divmod(number, len(_CONSONANTS))
    return first_name(start % FIRST_NAMES) + _CONSONANTS[last]
