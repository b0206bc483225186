"""Rewards that compare texts: to the letter, by a pattern, by length."""

from typing import Literal
from unicodedata import normalize

import regex
from pydantic import Field, field_validator, model_validator

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Example
from steadyrl.environments.dataset.rewards import (
    NO_ANSWER,
    Attempt,
    Mark,
    RewardSettings,
    TextReward,
    right_or_wrong,
)
from steadyrl.environments.question_answering import normalized


class ExactReward(RewardSettings):
    """1 where the answer is the right one to the letter, else 0."""

    name: Literal["exact"] = "exact"

    compare: Literal["text", "words"] = "text"
    """text: without surrounding and repeated whitespace. words: besides, without case, ASCII
    punctuation and English articles."""

    def make(self, answer_format: AnswerFormat) -> TextReward:
        """The comparison."""
        same = normalized if self.compare == "words" else collapsed

        def mark(answer: str, example: Example) -> Mark:
            return right_or_wrong(same(answer) == same(example.answer or ""))

        return TextReward.of_answers(mark)


def collapsed(text: str) -> str:
    """`text` in Unicode's composed form, with single spaces."""
    return " ".join(normalize("NFC", text).split())


class RegexReward(RewardSettings):
    """1 where a pattern is found, else 0."""

    name: Literal["regex"] = "regex"

    pattern: str = Field(min_length=1)
    """Regular expression that is searched for; ^ and $ stand for the ends of the text. What a group
    `(?P<answer>...)` finds must be the right answer."""

    part: Literal["answer", "response"] = "answer"
    """What is searched: the answer, without thoughts, or the whole response."""

    timeout: float = Field(1.0, gt=0.0)
    """Seconds after which a search is given up and the reward is 0."""

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
        return pattern

    @property
    def reads_answer(self) -> bool:
        """Whether a group is to hold it."""
        return "answer" in regex.compile(self.pattern).groupindex

    def make(self, answer_format: AnswerFormat) -> TextReward:
        """The search."""
        return TextReward(self._mark)

    def _mark(self, attempt: Attempt) -> Mark:
        searched = attempt.text if self.part == "response" else attempt.answer
        if searched is None:
            return NO_ANSWER
        try:
            found = regex.search(self.pattern, searched, timeout=self.timeout)
        except TimeoutError:
            return Mark(value=0.0, reason=f"the search took longer than {self.timeout:g} s")
        if found is None:
            return Mark(value=0.0, reason=f"the {self.part} has another form")
        if not self.reads_answer:
            return Mark(value=1.0, reason=f"the {self.part} has the right form")
        right = collapsed(attempt.example.answer or "")
        return right_or_wrong(collapsed(found["answer"] or "") == right)


class LengthReward(RewardSettings):
    """1 where the response is neither too short nor too long, else 0. Thoughts count."""

    name: Literal["length"] = "length"

    least: int = Field(0, ge=0)
    """Length of the shortest response that earns it."""

    most: int | None = Field(None, ge=1)
    """Length of the longest one. None: no limit."""

    unit: Literal["words", "characters"] = "words"
    """What is counted. Words are separated by whitespace."""

    @model_validator(mode="after")
    def _is_possible(self) -> "LengthReward":
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most is {self.most}, less than least, which is {self.least}")
        return self

    @property
    def reads_answer(self) -> bool:
        """Never."""
        return False

    def make(self, answer_format: AnswerFormat) -> TextReward:
        """The count."""
        return TextReward(self._mark)

    def _mark(self, attempt: Attempt) -> Mark:
        length = len(attempt.text.split() if self.unit == "words" else attempt.text)
        if length < self.least:
            return Mark(value=0.0, reason=f"the response is too short: {length} {self.unit}")
        if self.most is not None and length > self.most:
            return Mark(value=0.0, reason=f"the response is too long: {length} {self.unit}")
        return Mark(value=1.0, reason="the response has the right length")
