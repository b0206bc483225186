"""Multiple-choice reward: the letter that a response names.

The letter is read independently of the correct answer, so naming all letters earns no more than
naming one, and lists of letters count as no answer.
"""

import re
from string import ascii_uppercase
from typing import Literal

from pydantic import Field

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Example, InvalidRowError
from steadyrl.environments.dataset.rewards import (
    Attempt,
    RewardResult,
    RewardSettings,
    TextReward,
    binary_result,
)

_MARKUP = re.compile(r"\\(?:boxed|text\w*|math\w+|mbox)(?![A-Za-z])|[*_`$\\{}#]")
_STATES = re.compile(
    r"\b(?:answer|choice|option)s?\b[^.!?\n]{0,60}?(?:\b(?:is|are|be)\b|[:=])", re.IGNORECASE
)
_NAMES = re.compile(r"[\s:=-]*(?:(?:option|choice|letter)\s+)?[(\[\"'\u201c\u2018]*", re.IGNORECASE)
_GOES_ON = re.compile(
    r"[)\]\"'\u201d\u2019]*[ \t]*"
    r"(?:\.?\s*(?:[,;/|&+]|\b(?:or|and|also|maybe|perhaps|either)\b)[ \t]*)*[(\[\"'\u201c\u2018]*",
    re.IGNORECASE,
)
_DENIES = re.compile(r"(?:\bnot|n['\u2019]t)\s+\(?$", re.IGNORECASE)


class ChoiceReward(RewardSettings):
    """1 if the response names the correct letter, else 0."""

    name: Literal["choice"] = "choice"

    options: int = Field(4, ge=2, le=26)
    """Number of choices per question: 4 means A to D."""

    numbered_from: Literal[0, 1] | None = None
    """Number that stands for A, if the dataset gives correct answers as numbers."""

    def make(self, answer_format: AnswerFormat) -> "_Choice":
        """The reward."""
        return _Choice(self)

    @property
    def letters(self) -> str:
        """Letters of the choices."""
        return ascii_uppercase[: self.options]

    def right_letter(self, answer: str) -> str:
        """Letter of the correct choice in the dataset.

        Raises:
            InvalidRowError: the dataset gives no valid letter.
        """
        said = answer.strip().strip("()[].:").strip().upper()
        if said in self.letters and len(said) == 1:
            return said
        if said.isdecimal() and self.numbered_from is None:
            raise InvalidRowError(
                f"the answer is the number {said}; set numbered_from of the reward 'choice' to "
                "the number that stands for A"
            )
        if said.isdecimal() and 0 <= int(said) - (self.numbered_from or 0) < self.options:
            return self.letters[int(said) - (self.numbered_from or 0)]
        raise InvalidRowError(
            f"the answer is {answer!r:.100}, not a letter from A to {self.letters[-1]}"
        )


class _Choice(TextReward):
    def __init__(self, settings: ChoiceReward) -> None:
        super().__init__(self._mark)
        self._settings = settings

    def check(self, example: Example) -> None:
        """Checks that the answer is one of the letters."""
        self._settings.right_letter(example.answer or "")

    def _mark(self, attempt: Attempt) -> RewardResult:
        letter = read_choice(attempt.answer or "", self._settings.letters)
        if letter is None:
            return RewardResult(value=0.0, reason="the response does not name one letter")
        right = self._settings.right_letter(attempt.example.answer or "")
        return binary_result(letter == right)


def read_choice(text: str, letters: str) -> str | None:
    """The letter that `text` names as its answer; None if it names none or several.

    The last statement such as `the answer is` counts; without one, the only letter in the text. A
    letter is in upper case or in parentheses.
    """
    text = _MARKUP.sub(" ", text)
    alone = text.strip(" \t\r\n().[]:\"'").upper()
    if len(alone) == 1 and alone in letters:
        return alone
    for said in reversed([*_STATES.finditer(text)]):
        stated = _leading_letter(text[said.end() :], letters)
        if stated is not None:
            return stated or None
    named = _mentions(text, letters)
    return named.pop() if len(named) == 1 else None


def _leading_letter(tail: str, letters: str) -> str | None:
    """The letter that `tail` begins with; empty: several letters, None: no letter."""
    start = _NAMES.match(tail)
    assert start is not None, "it matches nothing at all, too"
    letter, rest = tail[start.end() : start.end() + 1], tail[start.end() + 1 :]
    if not letter or letter.upper() not in letters or re.match(r"\w|['\u2019]\w", rest):
        return None
    if letter.islower() and re.match(r"\s+\w", rest):
        return None  # "the answer is a city"
    goes_on = _GOES_ON.match(rest)
    more = rest[goes_on.end() :] if goes_on else rest
    return "" if _letter_pattern(letters).match(more) else letter.upper()


def _letter_pattern(letters: str) -> re.Pattern[str]:
    """Pattern of a standalone letter. Articles and pronouns are excluded: `A dog`, `I think`."""
    lower = letters.lower()
    return re.compile(
        rf"(?<![\w'\u2019])(?!(?:A|I)\s+[a-z])(?:[{letters}](?!\w|['\u2019]\w)|(?<=\()[{lower}](?=\)))"
    )


def _mentions(text: str, letters: str) -> set[str]:
    """Letters that `text` mentions without negation, in upper case."""
    found = _letter_pattern(letters).finditer(text)
    return {match[0].upper() for match in found if not _is_negated(text, match.start())}


def _is_negated(text: str, position: int) -> bool:
    return _DENIES.search(text[max(0, position - 12) : position]) is not None
