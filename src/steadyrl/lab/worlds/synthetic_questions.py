"""A synthetic world of people, with multi-hop questions about them in HotpotQA's format.

Everybody has a town, a year of birth, a job and a teacher. A bridge question asks for a fact about
somebody's teacher, so that two paragraphs have to be found one after the other; a comparison
question is about two people. A name belongs to the split that `split_of` gives it, and people only
know people of their own split: what a model remembers from training answers no question of another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.environments.hotpot_question import QuestionSet, QuestionSettings
from steadyrl.environments.hotpot_questions import always, question_set
from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of
from steadyrl.lab.worlds.synthetic_wording import (
    COMPACT,
    FIRST_NAMES,
    JOBS,
    PLAIN,
    TOWNS,
    Wording,
    first_name,
    second_name,
)

Row = dict[str, Any]
"""One question in the official JSON format."""

_SEED = 20_260_213
_NAMES, _FACTS, _PARTNERS, _CONTEXT, _ORDER = range(5)
_FEWEST_PEOPLE = 4
_PARAGRAPHS = 10
_FIRST_YEAR, _YEARS = 1850, 100


class SyntheticQuestions(QuestionSettings):
    """A synthetic world, generated from a seed."""

    name: Literal["synthetic"] = "synthetic"

    people: int = Field(500, ge=1, le=3000)
    """People in the world: about 80% belong to the train split and 10% to each other one. There
    are four questions for each."""

    seed: int = Field(0, ge=0)
    """Seed of the world."""

    compact: bool = False
    """Short names and sentences, for models that read single characters."""

    def load(self) -> QuestionSet:
        """The questions of each split.

        Raises:
            UserError: there are too few people for each split to have some.
        """
        parts = [
            ([(f"question {row['_id']}", row) for row in rows], always(split))
            for split, rows in synthetic_rows(self).items()
        ]
        return question_set(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person and all facts about them."""

    name: str
    teacher: str
    town: str
    year: int
    job: str


def synthetic_rows(settings: SyntheticQuestions) -> dict[Split, list[Row]]:
    """The questions of each split, shuffled.

    Raises:
        UserError: there are too few people for each split to have some.
    """
    wording = COMPACT if settings.compact else PLAIN
    names = _names(settings, wording)
    return {
        split: _Community(
            settings, wording, split, [name for name in names if split_of(name) == split]
        ).rows()
        for split in Split
    }


def _names(settings: SyntheticQuestions, wording: Wording) -> list[str]:
    """One name per person; first names are unique."""
    order = np.argsort(_draws(settings.seed, _NAMES, count=FIRST_NAMES), kind="stable")
    firsts = [first_name(number) for number in order[: settings.people].tolist()]
    if not wording.full_names:
        return firsts
    surnames = _draws(settings.seed, _NAMES, 1, count=len(firsts))
    return [f"{first} {second_name(word)}" for first, word in zip(firsts, surnames, strict=True)]


class _Community:
    """The people of one split."""

    def __init__(
        self, settings: SyntheticQuestions, wording: Wording, split: Split, names: Sequence[str]
    ) -> None:
        if len(names) < _FEWEST_PEOPLE:
            raise UserError(
                f"Of {settings.people} people only {len(names)} belong to the {split} split, which "
                f"needs {_FEWEST_PEOPLE}. Raise questions.people; 100 are enough."
            )
        self._seed, self._split, self._wording = settings.seed, split, wording
        self._people = [_person(settings.seed, names, place) for place in range(len(names))]

    def rows(self) -> list[Row]:
        """Three bridge questions and one comparison for each person."""
        questions = [*self._bridges(), *self._comparisons()]
        words = _draws(self._seed, _ORDER, *self._split.encode(), count=len(questions))
        order = np.argsort(words, kind="stable").tolist()
        return [{"_id": f"{self._split}-{n}", **questions[at]} for n, at in enumerate(order)]

    def _bridges(self) -> Iterator[Row]:
        by_name = {person.name: person for person in self._people}
        for person in self._people:
            teacher = by_name[person.teacher]
            for about, question in self._wording.bridges.items():
                facts = ((person, "teacher"), (teacher, about))
                yield self._row("bridge", question, str(getattr(teacher, about)), facts)

    def _comparisons(self) -> Iterator[Row]:
        """By turns: who is the elder, do two share a town (yes), and again, do they (no)."""
        asked: set[frozenset[str]] = set()
        for place, person in enumerate(self._people):
            about = "year" if place % 2 == 0 else "town"
            wanted_alike = place % 4 == 1
            for other in self._others(place):
                pair = frozenset({person.name, other.name})
                alike = getattr(person, about) == getattr(other, about)
                if alike != wanted_alike or pair in asked:
                    continue
                asked.add(pair)
                elder = min(person, other, key=lambda someone: someone.year).name
                answer = elder if about == "year" else "yes" if alike else "no"
                facts = ((person, about), (other, about))
                yield self._row("comparison", self._wording.comparisons[about], answer, facts)
                break

    def _others(self, place: int) -> Iterator[Person]:
        """Everybody else, from a drawn one on."""
        (start,) = _draws(self._seed, _PARTNERS, *self._people[place].name.encode(), count=1)
        for step in range(len(self._people)):
            at = (start + step) % len(self._people)
            if at != place:
                yield self._people[at]

    def _row(
        self, kind: str, question: str, answer: str, facts: tuple[tuple[Person, str], ...]
    ) -> Row:
        """A question; its two supporting paragraphs stand among others, shuffled."""
        (person, _), (other, _) = facts
        text = question.format(person=person.name, other=other.name)
        words = _draws(self._seed, _CONTEXT, *text.encode(), count=2 * _PARAGRAPHS)
        strangers = [self._people[word % len(self._people)] for word in words]
        present = list(dict.fromkeys([person, other, *strangers]))[:_PARAGRAPHS]
        order = np.argsort(words[: len(present)], kind="stable").tolist()
        sentence = list(self._wording.sentences).index
        return {
            "question": text,
            "answer": answer,
            "type": kind,
            "level": "easy",
            "supporting_facts": [[someone.name, sentence(about)] for someone, about in facts],
            "context": [[present[at].name, self._sentences(present[at])] for at in order],
        }

    def _sentences(self, person: Person) -> list[str]:
        return [
            template.format(**{"name": person.name, about: getattr(person, about)})
            for about, template in self._wording.sentences.items()
        ]


def _person(seed: int, names: Sequence[str], place: int) -> Person:
    name = names[place]
    teacher, town, year, job = _draws(seed, _FACTS, *name.encode(), count=4)
    return Person(
        name=name,
        teacher=names[(place + 1 + teacher % (len(names) - 1)) % len(names)],
        town=TOWNS[town % len(TOWNS)],
        year=_FIRST_YEAR + year % _YEARS,
        job=JOBS[job % len(JOBS)],
    )


def _draws(seed: int, *purpose: int, count: int) -> list[int]:
    """The first `count` random words that belong to this purpose."""
    words: list[int] = (
        np.random.SeedSequence((_SEED, seed, *purpose)).generate_state(count).tolist()
    )
    return words
