"""Questions in words with hidden meanings, over a library of single facts.

    library     K7 e B2        the relation e leads from K7 to B2
    question    K7 k m         where the word k leads from K7, and the word m from there
    rulebook    ke lo ma ni    the word k means the relation e, l means o, ...
    hint        ke ma          so much of it as the question is about

An answer takes two searches, each for the relation that a word means. Who does not know the words
can only guess; the hint is what feedback tells of them. A name belongs to the split that `split_of`
gives it, and facts are among the names of one split: what a model remembers of them from training
answers no question of another.
"""

from collections.abc import Iterator
from itertools import permutations, product
from math import factorial
from string import ascii_uppercase, digits
from typing import Literal

from pydantic import Field, model_validator

from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.hotpot_question import Question, QuestionSet, QuestionSettings
from steadyrl.environments.protocol import Split
from steadyrl.environments.retrieval import Passage
from steadyrl.environments.splits import split_of

RELATIONS = "aeiouy"
WORDS = "klmnpr"
HOPS = 2

_SEED = 20_260_213
_FACTS, _ABOUT, _MEANING = range(3)
_SPLITS = {split: number for number, split in enumerate(Split)}
_MANY = 10**9


class CodedQuestions(QuestionSettings):
    """A library made from a seed, with unlimited questions about it."""

    name: Literal["coded"] = "coded"

    relations: int = Field(4, ge=HOPS, le=len(RELATIONS))
    """Relations, and as many words for them."""

    words: Literal["fixed", "permuted"] = "permuted"
    """fixed: words have the meaning of number `meaning`. permuted: those of each question have
    another, and never that one."""

    meaning: int = Field(0, ge=0)
    """Index of the meaning; 0 gives the first word the first relation, and so on."""

    seed: int = Field(0, ge=0)
    """Seed of the facts."""

    @model_validator(mode="after")
    def _meaning_exists(self) -> "CodedQuestions":
        meanings = factorial(self.relations)
        if self.meaning >= meanings:
            raise ValueError(
                f"meaning is {self.meaning}: {self.relations} relations have the meanings 0 to "
                f"{meanings - 1}. Choose one of them, or raise relations."
            )
        return self

    def load(self) -> QuestionSet:
        """The questions of each split, and all facts."""
        splits = {split: CodedSplit(self, split) for split in Split}
        passages = [passage for split in splits.values() for passage in split.passages()]
        return QuestionSet(questions=splits, passages=passages)


class CodedSplit:
    """The questions of one split. Each is drawn when it is asked for, and always the same."""

    def __init__(self, settings: CodedQuestions, split: Split) -> None:
        self._settings = settings
        self._split = split
        self._relations = RELATIONS[: settings.relations]
        self._meanings = coded_meanings(settings)
        self._names = [name for name in _names() if split_of(name) is split]
        self._facts = {name: self._facts_of(place) for place, name in enumerate(self._names)}

    def __len__(self) -> int:
        """A nominal size; questions repeat after some hundreds, or thousands in training."""
        return _MANY

    def __getitem__(self, number: int) -> Question:
        """Question `number`. One that reads the same may have words of another meaning."""
        about = self._draws(_ABOUT, number)
        name = self._names[about.below(len(self._names))]
        words = [WORDS[place] for place in about.distinct(HOPS, len(self._relations))]
        choice = self._draws(_MEANING, number).below(len(self._meanings))
        relation = dict(zip(WORDS, self._meanings[choice], strict=False))
        titles, reached = [], name
        for word in words:
            titles.append(f"{reached} {relation[word]}")
            reached = self._facts[reached][relation[word]]
        return Question(
            id=f"{self._split}-{number}",
            question=" ".join([name, *words]),
            answer=reached,
            titles=tuple(titles),
            hint=" ".join([word + relation[word] for word in words]),
            rulebook=" ".join([word + letter for word, letter in relation.items()]),
        )

    def passages(self) -> Iterator[Passage]:
        """The library's passages about the names of this split."""
        for name, facts in self._facts.items():
            for relation, other in facts.items():
                yield Passage(title=f"{name} {relation}", text=f"{name} {relation} {other}")

    def _facts_of(self, place: int) -> dict[str, str]:
        """The name that each relation leads to, all different."""
        count = len(self._names)
        away = self._draws(_FACTS, place).distinct(len(self._relations), count - 1)
        others = [self._names[(place + 1 + steps) % count] for steps in away]
        return dict(zip(self._relations, others, strict=True))

    def _draws(self, purpose: int, number: int) -> Draws:
        return Draws(_SEED, self._settings.seed, _SPLITS[self._split], purpose, number)


def coded_meanings(settings: CodedQuestions) -> list[str]:
    """The relations that the words mean in turn: the one way that tasks have, or all others."""
    meanings = ["".join(letters) for letters in permutations(RELATIONS[: settings.relations])]
    kept = meanings.pop(settings.meaning)
    return [kept] if settings.words == "fixed" else meanings


def _names() -> list[str]:
    """The 260 names from A0 to Z9."""
    return [letter + digit for letter, digit in product(ascii_uppercase, digits)]
